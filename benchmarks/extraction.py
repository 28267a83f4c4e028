"""400 requests of 200 ms each, 32 at a time, against the ideal time. Aim: at most 1.25 times."""

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from table import publish

from fivl_hf.augment.extractors.chat import ChatExtractor
from fivl_hf.llm.answers import AnswerCache
from fivl_hf.llm.client import ChatClient
from fivl_hf.llm.settings import ChatSettings
from fivl_hf.schema import Turn

LATENCY = 0.2
REQUESTS = 400
REPEATS = 3


def main() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    rows = []
    for concurrency in (1, 32, 128):
        requests = REQUESTS if concurrency > 1 else 20
        ideal = LATENCY * -(-requests // concurrency)
        seconds = statistics.median(_run(url, concurrency, requests) for _ in range(REPEATS))
        rows.append(
            {
                "concurrency": concurrency,
                "requests": requests,
                "ideal_s": ideal,
                "ours_s": seconds,
                "ratio": seconds / ideal,
                "per_second": requests / seconds,
            }
        )
    server.terminate()
    publish("extraction", f"Requests of {1000 * LATENCY:.0f} ms each (aim at 32: ratio ≤ 1.25)", rows)


def _run(url: str, concurrency: int, requests: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        client = ChatClient(ChatSettings("m", url, concurrency=concurrency), AnswerCache(Path(folder) / "a.sqlite"))
        with ChatExtractor(client) as extractor:
            extractor.extract([Turn("What is it?", "The first.")])  # imports and the first connection
            turns = [Turn("What is it?", f"Number {i} is a red car.") for i in range(requests)]
            started = time.perf_counter()
            found = extractor.extract(turns)
            seconds = time.perf_counter() - started
        assert all(each.mentions[0].text == "red car" for each in found)
    return seconds


def _serve(connection: Connection) -> None:
    """A server in a process of its own that answers every request after the latency."""
    message = {"role": "assistant", "content": '{"expressions": ["red car"]}'}
    body = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 10, "total_tokens": 310},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in asked.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(LATENCY)
                writer.write(head + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        connection.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
