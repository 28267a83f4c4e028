import pytest

from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatSettings, ServiceError


def test_no_key_and_no_server_is_said_at_once(cache, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ServiceError, match="OPENAI_API_KEY"):
        ChatClient(ChatSettings("gpt-4o"), cache)
