"""Asking: batches against one question at a time, an endpoint against the ideal, memory against the questions."""

import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from memory import Memory
from table import publish

from fivl_hf.augment.scenes import scene_rows
from fivl_hf.chat import as_blocks, encode
from fivl_hf.evaluation.answerers.endpoint import EndpointAnswerer
from fivl_hf.evaluation.answerers.local import TransformersAnswerer
from fivl_hf.evaluation.answerers.protocol import AnyRequest, Generated
from fivl_hf.evaluation.plan import Plan
from fivl_hf.evaluation.runner import evaluate_answers
from fivl_hf.evaluation.table import AnswerTable
from fivl_hf.llm.settings import ChatSettings
from fivl_hf.scenes.model import scene_model, scene_processor
from fivl_hf.schema import FEATURES

LATENCY, AT_A_TIME, ASKED = 0.2, 64, 2_000
TOKENS = 12


def main() -> None:
    rows = list(scene_rows("test", 400, seed=0))
    publish("asking", "Asking: seconds against the way it is compared with", [_batches(rows), _endpoint(rows)])
    publish(
        "asking_memory", "Memory of an evaluation, above what it starts with", [_memory(n) for n in (1_000, 30_000)]
    )


def _batches(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The demo's architecture, untrained: every answer has the same length."""
    processor = scene_processor()
    model = scene_model(processor, seed=0)
    plan = Plan(rows, ["original"])
    requests = list(plan)

    def alone() -> None:
        for request in requests:
            inputs = encode(
                processor, [as_blocks(request.messages, 1)], [list(request.open_images())], prompt=True
            ).inputs
            model.generate(**inputs, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)

    answerer = TransformersAnswerer(model, processor, 64, TOKENS, {"min_new_tokens": TOKENS})
    ours = _seconds(lambda: list(answerer.answers(plan)))
    return _line("transformers, batches of 64, against generate at batch 1", len(rows), ours, _seconds(alone))


def _endpoint(rows: list[dict[str, Any]]) -> dict[str, Any]:
    plan = Plan(
        [{**row, "id": f"{row['id']}-{i}"} for i in range(ASKED // len(rows)) for row in rows],
        ["original"],
        prompt_suffix="",
    )
    with tempfile.TemporaryDirectory() as folder:
        url = _serve()
        settings = ChatSettings(model="m", base_url=url, concurrency=AT_A_TIME)
        # Equal requests share one reply: each id has a question of its own.
        answerer = EndpointAnswerer(settings, Path(folder) / "a.sqlite")
        distinct = [_with_id(request) for request in plan]
        # The first request imports packages; that time is not measured.
        list(EndpointAnswerer(settings, Path(folder) / "first.sqlite").answers(distinct[:1]))
        ours = _seconds(lambda: list(answerer.answers(distinct)))
    ideal = LATENCY * len(distinct) / AT_A_TIME
    return _line(f"endpoint of {LATENCY} s, {AT_A_TIME} at a time, against the ideal", len(distinct), ours, ideal)


def _with_id(request: Any) -> Any:
    *before, last = request.messages
    return replace(request, messages=(*before, {**last, "content": f"{request.id}: {last['content']}"}))


def _serve() -> str:
    """Serve one answer to everything, after a while, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    urls = context.Queue()
    context.Process(target=_server, args=(urls,), daemon=True).start()
    return str(urls.get())


def _server(urls: Any) -> None:
    reply = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    body = json.dumps(reply).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(part.lower().split(b": ", 1) for part in line.split(b"\r\n")[1:] if part)
                await reader.readexactly(int(fields[b"content-length"]))
                await asyncio.sleep(LATENCY)
                writer.write(head + body)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 22)
        urls.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        await server.serve_forever()

    asyncio.run(run())


class _Same:
    """Answers everything alike, after opening its images."""

    identity: ClassVar[dict[str, Any]] = {}
    splits_over_processes = False
    unanswered = ()
    details: ClassVar[dict[str, Any]] = {}

    def answers(self, requests: Iterable[AnyRequest]) -> Iterator[tuple[AnyRequest, Generated]]:
        for request in requests:
            request.open_images()
            yield request, Generated("It is a red ring.", "stop", 0.1)


def _memory(questions: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        some = list(scene_rows("test", 100, seed=0))
        rows = Dataset.from_list(some, features=FEATURES).select([i % 100 for i in range(questions)])
        rows = (
            rows.remove_columns("id").add_column("id", list(map(str, range(questions)))).select_columns(list(FEATURES))
        )
        rows.to_parquet(f"{folder}/rows.parquet")
        read = Dataset.from_parquet(f"{folder}/rows.parquet", cache_dir=folder)
        evaluate_answers(_Same(), read.select(range(10)), resamples=10)
        memory, started = Memory("cpu"), time.perf_counter()
        evaluate_answers(_Same(), read, table=AnswerTable(Path(folder) / "answers.jsonl"), resamples=10_000)
        return {"questions": questions, "seconds": time.perf_counter() - started, "memory_mb": memory.peak()}


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _line(what: str, questions: int, ours: float, other: float) -> dict[str, Any]:
    return {"what": what, "questions": questions, "seconds": ours, "other_s": other, "ratio": other / ours}


if __name__ == "__main__":
    main()
