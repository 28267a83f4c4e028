"""Replies of language models kept on disk, so that none is paid for twice."""

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["AnswerCache", "BatchJob", "Reply", "answer_key"]

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT, prompt TEXT, asked TEXT, reply TEXT, created TEXT DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, id TEXT, requests INTEGER, collected INTEGER DEFAULT 0,
    created TEXT DEFAULT CURRENT_TIMESTAMP
);
"""


@dataclass(frozen=True)
class Reply:
    """What a model replied.

    Attributes:
        format: what it was asked for, "json" or "text".
        finish: why it ended, in the API's words: "stop", "length", "content_filter".
        refusal: what it said instead, if it refused.
    """

    text: str
    format: str = "json"
    finish: str = "stop"
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def problem(self) -> str | None:
        """Why there is nothing to read in the reply, None if there is."""
        if self.refusal or self.finish == "content_filter":
            return "the model refused"
        if self.finish == "length":
            return "the reply is cut off"
        return None if self.text.strip() else "the reply is empty"


@dataclass(frozen=True)
class BatchJob:
    """A batch at the Batch API; ``id`` is None while it is not known whether it was submitted."""

    name: str
    id: str | None
    requests: int


def answer_key(*parts: str) -> str:
    """The hash by which an answer is found again: of (model, prompt version, question, answer) and the like."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class AnswerCache:
    """An SQLite file of replies by key. Every reply is on disk before it is used.

    Raises:
        ValueError: the file is no such database, naming it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
            # A killed process loses nothing in this mode; only a power cut may cost the last replies.
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _TABLES)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} cannot be used as an answer cache: {error}") from error

    def __contains__(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM answers WHERE key = ?", (key,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def get(self, key: str) -> Reply | None:
        found = self._db.execute("SELECT reply FROM answers WHERE key = ?", (key,)).fetchone()
        return Reply(**json.loads(found[0])) if found else None

    def put(self, key: str, reply: Reply, *, model: str, prompt: str, asked: Any) -> None:
        """Keep a reply; ``model``, ``prompt`` (its version) and ``asked`` are there for people to read."""
        entry = (key, model, prompt, json.dumps(asked, ensure_ascii=False), json.dumps(asdict(reply)))
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO answers (key, model, prompt, asked, reply) VALUES (?, ?, ?, ?, ?)", entry
            )
        except sqlite3.OperationalError as error:
            raise OSError(f"the answer cache {self.path} cannot be written: {error}") from error

    def batches(self) -> list[BatchJob]:
        """The batches whose results were not collected yet."""
        found = self._db.execute("SELECT name, id, requests FROM batches WHERE NOT collected ORDER BY created, name")
        return [BatchJob(*row) for row in found]

    def note_batch(self, batch: BatchJob, *, collected: bool = False) -> None:
        self._db.execute(
            "INSERT INTO batches (name, id, requests, collected) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET id = excluded.id, collected = excluded.collected",
            (batch.name, batch.id, batch.requests, collected),
        )

    def close(self) -> None:
        self._db.close()
