"""A small OpenAI-compatible server whose answers a test decides, counting what it was asked."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What to send back: a text as a chat completion, or a raw status and body, after a while; or a cut connection."""

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    cut: bool = False
    drip: float = 0.0  # seconds before each byte
    finish: str = "stop"
    refusal: str | None = None

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        return json.dumps(completion(self.text, self.finish, self.refusal)).encode()


def completion(text: str | None, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text, "refusal": refusal},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class ScriptedServer:
    """``answer(body, number)`` decides; ``number`` counts how often these messages were asked before."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Answer]) -> None:
        self.answer = answer
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.open = self.most_open = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.lose_batch_replies = 0
        self.batch_status = "completed"
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without this, a delayed acknowledgement makes every answer 40 ms late.
            disable_nagle_algorithm = True
            wbufsize = 65536

            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/chat/completions"):
                    self._send(outer._chat(json.loads(raw)))
                elif self.path.endswith("/files"):
                    self._send(outer._upload(raw, self.headers["Content-Type"]))
                else:
                    self._send(outer._create_batch(json.loads(raw)))

            def do_GET(self) -> None:
                self._send(outer._get(self.path))

            def _send(self, answer: Answer) -> None:
                time.sleep(answer.delay)
                outer.done()
                if answer.cut:
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"id": "x", "choi')
                    self.close_connection = True
                    return
                payload = answer.payload()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if answer.drip:
                    for i in range(len(payload)):
                        time.sleep(answer.drip)
                        self.wfile.write(payload[i : i + 1])
                        self.wfile.flush()
                self.wfile.write(payload if not answer.drip else b"")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def done(self) -> None:
        with self._lock:
            self.open = max(0, self.open - 1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _chat(self, body: dict[str, Any]) -> Answer:
        key = json.dumps(body["messages"])
        with self._lock:
            number = self.asked[key]
            self.asked[key] += 1
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        return self.answer(body, number)

    def _upload(self, raw: bytes, content_type: str) -> Answer:
        boundary = content_type.split("boundary=")[1].encode()
        parts = raw.split(b"--" + boundary)
        content = next(p.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n", 1)[0] for p in parts if b"filename=" in p)
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return _json({"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "f",
                      "purpose": "batch", "status": "processed"})  # fmt: skip

    def _create_batch(self, body: dict[str, Any]) -> Answer:
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "created_at": 0,
            "metadata": body.get("metadata"),
            "status": "in_progress",
        }
        if self.lose_batch_replies:
            self.lose_batch_replies -= 1
            return Answer(cut=True)
        return _json(self.batches[name])

    def _get(self, path: str) -> Answer:
        path = path.split("?")[0]
        if path.endswith("/content"):
            return Answer(body=self.files[path.split("/")[-2]])
        if path.endswith("/batches"):
            return _json({"object": "list", "data": list(self.batches.values()), "has_more": False})
        if path.split("/")[-1] not in self.batches:
            return Answer(status=404, body=b'{"error": {"message": "no such batch"}}')
        batch = self.batches[path.split("/")[-1]]
        if batch["status"] == "in_progress" and self.batch_status == "completed":
            self._finish(batch)
        return _json(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        """Answer a batch's lines, last one first."""
        results = []
        for line in reversed(self.files[batch["input_file_id"]].splitlines()):
            task = json.loads(line)
            answer = self._chat(task["body"])
            response = {"status_code": answer.status, "request_id": "r", "body": json.loads(answer.payload())}
            results.append(json.dumps({"id": "l", "custom_id": task["custom_id"], "response": response, "error": None}))
        name = f"out-{batch['id']}"
        self.files[name] = "\n".join(results).encode()
        batch.update(status="completed", output_file_id=name)


def _json(value: Any) -> Answer:
    return Answer(body=json.dumps(value).encode())


def asked_answer(body: dict[str, Any]) -> str:
    """The answer that a request for key expressions is about."""
    return body["messages"][1]["content"].split("\nAnswer: ")[1]


def last_words(body: dict[str, Any], number: int) -> Answer:
    """Names the last word of the answer as its key expression."""
    word = asked_answer(body).rstrip(".").split()[-1]
    return Answer(f'{{"expressions": ["{word}"]}}')
