import pytest
from scripted_server import Answer, ScriptedServer, asked_answer

from fivl_hf.llm.settings import ChatSettings


@pytest.fixture
def serve(monkeypatch):
    """Starts scripted servers; the back-off is shortened, a server's Retry-After is not."""
    monkeypatch.setattr("fivl_hf.llm.client.FIRST_WAIT", 0.01)
    monkeypatch.setattr("fivl_hf.llm.client.LONGEST_WAIT", 0.05)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    servers = []

    def start(answer=last_words):
        servers.append(ScriptedServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def last_words(body, number):
    """Names the last word of the answer as its key expression."""
    word = asked_answer(body).rstrip(".").split()[-1]
    return Answer(f'{{"expressions": ["{word}"]}}')


@pytest.fixture
def settings():
    def make(server, **options):
        return ChatSettings(**{"model": "m", "base_url": server.url, "retries": 3, "timeout": 5.0, **options})

    return make
