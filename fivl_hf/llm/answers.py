"""Replies of language models kept on disk, so that none is paid for twice."""

import hashlib
import json
import os
import socket
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["AnswerCache", "BatchJob", "Reply", "answer_key"]

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT, prompt TEXT, asked TEXT, reply TEXT, created TEXT DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS unusable (
    key TEXT, model TEXT, prompt TEXT, asked TEXT, reply TEXT, problem TEXT, created TEXT DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, host TEXT, pid INTEGER, until REAL, sent INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, id TEXT, requests INTEGER, collected INTEGER DEFAULT 0,
    created TEXT DEFAULT CURRENT_TIMESTAMP
);
"""

_PATIENCE = 60.0  # seconds that other processes may hold the file


@dataclass(frozen=True)
class Reply:
    """A model's reply.

    Attributes:
        format: the format it was asked for, "json" or "text".
        finish: why it ended, in the API's words: "stop", "length", "content_filter".
        refusal: the text of a refusal, if it refused.
    """

    text: str
    format: str = "json"
    finish: str = "stop"
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def problem(self) -> str | None:
        """The reason why there is nothing to read in the reply, if so."""
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
    """Return the hash under which an answer is kept: of (model, prompt version, question, answer) and the like."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class AnswerCache:
    """An SQLite file of replies by key, shared by any number of processes. Every reply is on disk before it is used.

    A process claims a key before it sends the request, so that no other one sends it too; a claim whose process has
    died is void.

    Raises:
        ValueError: the file is not such a database; the message names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE)
            self._make_tables()
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{path} cannot be used as an answer cache: {error}. Move it away to start with an empty one."
            ) from error

    def _make_tables(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                # A killed process loses nothing in this mode; only a power cut may cost the last replies.
                self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _TABLES)
                return
            except sqlite3.OperationalError as error:
                # Of processes that open a new file at once, SQLite lets one change the mode and the others do not wait.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def __contains__(self, key: str) -> bool:
        return self._execute("SELECT 1 FROM answers WHERE key = ?", key).fetchone() is not None

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM answers").fetchone()[0])

    def get(self, key: str) -> Reply | None:
        """Return the reply kept for a key, None if there is none; raises OSError if what is kept is damaged."""
        found = self._execute("SELECT reply FROM answers WHERE key = ?", key).fetchone()
        if not found:
            return None
        try:
            reply = Reply(**json.loads(found[0]))
            if isinstance(reply.text, str):
                return reply
        except (ValueError, TypeError, RecursionError):
            pass
        raise OSError(f"the answer cache {self.path} is damaged at {key}: move it away to start with an empty one")

    def put(self, key: str, reply: Reply, *, model: str, prompt: str, question: Any) -> None:
        """Keep a reply; ``model``, ``prompt`` (its version) and ``question`` are there for people to read."""
        self._execute(
            "INSERT OR REPLACE INTO answers (key, model, prompt, asked, reply) VALUES (?, ?, ?, ?, ?)",
            *(key, model, prompt, json.dumps(question, ensure_ascii=False), json.dumps(asdict(reply))),
        )

    def reject(self, key: str, reply: Reply, problem: str, *, model: str, prompt: str, question: Any) -> None:
        """Keep a reply that cannot be used for inspection (table ``unusable``); it is no longer the key's answer."""
        self._execute(
            "INSERT INTO unusable (key, model, prompt, asked, reply, problem) VALUES (?, ?, ?, ?, ?, ?)",
            *(key, model, prompt, json.dumps(question, ensure_ascii=False), json.dumps(asdict(reply)), problem),
        )
        self._execute("DELETE FROM answers WHERE key = ?", key)

    def claim(self, key: str, seconds: float) -> bool:
        """Claim a key for at most ``seconds`` seconds; False if another process holds it."""
        host, pid, now = socket.gethostname(), os.getpid(), time.time()
        taken = self._execute(
            "INSERT INTO claims (key, host, pid, until) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING RETURNING key",
            *(key, host, pid, now + seconds),
        ).fetchone()
        if taken:
            return True
        entry = self._execute("SELECT host, pid, until FROM claims WHERE key = ?", key).fetchone()
        if entry and _is_alive(*entry):
            return False
        if entry:
            self._forget(key, entry)
        return self.claim(key, seconds)

    def is_claimed(self, key: str) -> bool:
        """Return whether a living process has claimed a key."""
        entry = self._execute("SELECT host, pid, until FROM claims WHERE key = ?", key).fetchone()
        return entry is not None and _is_alive(*entry)

    def mark_sent(self, key: str) -> None:
        """Note that the request of a claimed key is on its way, so that it may be paid for."""
        self._execute("UPDATE claims SET sent = 1 WHERE key = ?", key)

    def release(self, key: str) -> None:
        """Give up a claim."""
        self._execute("DELETE FROM claims WHERE key = ?", key)

    def forget_dead_claims(self) -> int:
        """Void the claims of processes that were killed.

        Returns:
            How many requests were under way when a process was killed, over the whole life of this cache: each may
            have been paid for without its reply being kept.
        """
        for key, *entry in self._execute("SELECT key, host, pid, until FROM claims").fetchall():
            if not _is_alive(*entry):
                self._forget(key, entry)
        found = self._execute("SELECT value FROM counts WHERE name = 'lost'").fetchone()
        return int(found[0]) if found else 0

    def _forget(self, key: str, entry: tuple[Any, ...] | list[Any]) -> None:
        gone = self._execute(
            "DELETE FROM claims WHERE key = ? AND host = ? AND pid = ? AND until = ? RETURNING sent", key, *entry
        ).fetchone()
        if gone and gone[0] and key not in self:
            self._execute("INSERT INTO counts VALUES ('lost', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1")

    def batches(self) -> list[BatchJob]:
        """Return the batches whose results were not collected yet."""
        found = self._execute("SELECT name, id, requests FROM batches WHERE NOT collected ORDER BY created, name")
        return [BatchJob(*row) for row in found]

    def note_batch(self, batch: BatchJob, *, collected: bool = False) -> None:
        """Keep a batch's state; giving up one without an id changes nothing where another process has noted its id."""
        self._execute(
            "INSERT INTO batches (name, id, requests, collected) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET id = coalesce(excluded.id, id), "
            "collected = CASE WHEN excluded.id IS NULL AND id IS NOT NULL THEN collected ELSE excluded.collected END",
            *(batch.name, batch.id, batch.requests, collected),
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise OSError(
                f"{self.path} cannot be used as an answer cache: {error}. Move it away to start with an empty one."
            ) from error


def _is_alive(host: str, pid: int, until: float) -> bool:
    """Return whether the process that made a claim may still answer it."""
    if time.time() > until:
        return False
    if host != socket.gethostname() or pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
