"""A stand-in for the Hub: repositories in memory over HTTP, as far as huggingface_hub, datasets and evaluate ask."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repo:
    """Branches of one repository: path and content of their files."""

    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    private: bool = False
    commits: int = 0

    def files(self, revision: str) -> dict[str, bytes] | None:
        if revision in self.branches:
            return self.branches[revision]
        return next((files for name, files in self.branches.items() if self.sha(name) == revision), None)

    def sha(self, branch: str) -> str:
        content = repr(sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.branches[branch].items()))
        return hashlib.sha1(f"{branch}{content}".encode()).hexdigest()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class HubServer:
    """``with HubServer() as hub``: set HF_ENDPOINT to ``hub.url``.

    Attributes:
        repos: by (type, id).
        objects: large files by their SHA-256.
        writers: names under which the token may write.
        fail_after: cut the connection at the n-th upload of a large file, once.
        cut_downloads: files whose first download ends in the middle.
        uploads: how often each large file was sent.
    """

    def __init__(self, token: str = "hf_test", writers: tuple[str, ...] = ("me",)) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.token, self.writers = token, writers
        self.fail_after: int | None = None
        self.cut_downloads: set[str] = set()
        self.uploads: Counter[str] = Counter()
        self.requests: list[str] = []
        self.served = 0
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Any, token: str | None = None) -> dict[str, str]:
        """Return what a process needs to take this for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "HF_DATASETS_CACHE": f"{home}/datasets",
            "HF_EVALUATE_CACHE": f"{home}/evaluate",
            "HF_MODULES_CACHE": f"{home}/modules",
            "HF_TOKEN": self.token if token is None else token,
        }


_API = re.compile(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(.*))?")
_LFS = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")
_RESOLVE = re.compile(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        split = urlsplit(self.path)
        path = unquote(split.path)
        body = self._body()
        with self.hub.lock:
            self.hub.requests.append(f"{method} {path}")
        if method == "PUT":
            return self._store(path.rsplit("/", 1)[1], body)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/whoami-v2":
            return self._json({"name": self.hub.writers[0], "type": "user", "orgs": []})
        if found := _LFS.fullmatch(path):
            return self._lfs(json.loads(body))
        if found := _RESOLVE.fullmatch(path):
            return self._resolve(found[1] or "models", found[2], found[3], found[4], method)
        if found := _API.fullmatch(path):
            return self._api(found[1], found[2], found[3] or "", parse_qs(split.query), body, method)
        return self._error(404, "no such page")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _may_write(self, id: str) -> bool:
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._error(401, "Invalid username or password.")
        elif id.split("/")[0] not in self.hub.writers:
            self._error(403, "You don't have the rights to create a repo under this namespace")
        else:
            return True
        return False

    def _create(self, wanted: dict[str, Any]) -> None:
        id = f"{wanted.get('organization') or self.hub.writers[0]}/{wanted['name']}"
        key = (f"{wanted.get('type', 'model')}s", id)
        if not self._may_write(id):
            return
        with self.hub.lock:
            if key in self.hub.repos:
                return self._json({"url": f"{self.hub.url}/{id}", "error": "exists"}, 409)
            self.hub.repos[key] = Repo(private=bool(wanted.get("private") or wanted.get("visibility") == "private"))
        self._json({"url": f"{self.hub.url}/{'' if key[0] == 'models' else key[0] + '/'}{id}", "name": id})

    def _api(self, kind: str, id: str, rest: str, query: dict[str, list[str]], body: bytes, method: str) -> None:
        repo = self.hub.repos.get((kind, id))
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {self.hub.token}"):
            return self._error(404, "Repository not found", "RepoNotFound")
        action, _, tail = rest.partition("/")
        if action in ("", "revision"):
            return self._info(kind, id, repo, tail or "main")
        if action == "tree":
            return self._tree(repo, tail, recursive=query.get("recursive") in (["true"], ["True"], ["1"]))
        if action == "refs":
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": repo.sha(name)} for name in repo.branches
            ]
            return self._json({"branches": refs, "tags": [], "converts": []})
        if action == "paths-info":
            return self._json(self._entries(repo, tail, set(parse_qs(body.decode())["paths"])))
        if not self._may_write(id):
            return None
        if action == "branch":
            if tail in repo.branches:
                return self._error(409, "Reference already exists")
            repo.branches[tail] = dict(repo.branches["main"])
            return self._json({})
        if action == "preupload":
            files = json.loads(body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if _is_large(each) else "regular", "shouldIgnore": False}
                for each in files
            ]
            return self._json({"files": modes})
        if action == "commit":
            return self._commit(kind, id, repo, tail, body)
        return self._error(404, f"no such action {action}")

    def _info(self, kind: str, id: str, repo: Repo, revision: str) -> None:
        files = repo.files(revision)
        if files is None:
            return self._error(404, "Revision not found", "RevisionNotFound")
        branch = next(name for name in repo.branches if repo.branches[name] is files)
        siblings = [{"rfilename": name, "size": len(data)} for name, data in sorted(files.items())]
        info = {"id": id, "sha": repo.sha(branch), "private": repo.private, "siblings": siblings, "tags": []}
        self._json({**info, "downloads": 0, "likes": 0, "gated": False, "disabled": False, "cardData": {}})

    def _tree(self, repo: Repo, tail: str, recursive: bool) -> None:
        revision, _, folder = tail.partition("/")
        files = repo.files(revision)
        inside = {name for name in files or () if not folder or name.startswith(f"{folder.rstrip('/')}/")}
        if files is None or (folder and not inside):
            return self._error(404, "no such folder", "EntryNotFound" if files is not None else "RevisionNotFound")
        if recursive:
            return self._json(self._entries(repo, revision, inside))
        start = len(folder.rstrip("/")) + 1 if folder else 0
        folders = sorted({name[: name.index("/", start)] for name in inside if "/" in name[start:]})
        here = self._entries(repo, revision, {name for name in inside if "/" not in name[start:]})
        self._json([*({"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders), *here])

    def _entries(self, repo: Repo, revision: str, wanted: set[str]) -> list[dict[str, Any]]:
        files = repo.files(revision) or {}
        return [_entry(name, data) for name, data in sorted(files.items()) if name in wanted]

    def _lfs(self, wanted: dict[str, Any]) -> None:
        objects = []
        for each in wanted["objects"]:
            known = each["oid"] in self.hub.objects
            upload = {"upload": {"href": f"{self.hub.url}/objects/{each['oid']}", "header": {}}}
            objects.append({"oid": each["oid"], "size": each["size"], **({} if known else {"actions": upload})})
        self._json({"transfer": "basic", "objects": objects})

    def _store(self, oid: str, body: bytes) -> None:
        with self.hub.lock:
            self.hub.uploads[oid] += 1
            if self.hub.fail_after is not None and self.hub.uploads.total() > self.hub.fail_after:
                self.close_connection = True
                return self._error(400, "cut off")
            if hashlib.sha256(body).hexdigest() != oid:
                return self._error(422, "another content")
            self.hub.objects[oid] = body
        self._json({})

    def _commit(self, kind: str, id: str, repo: Repo, branch: str, body: bytes) -> None:
        with self.hub.lock:
            files = repo.branches[branch]
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                elif entry["key"] == "deletedFile":
                    del files[value["path"]]
            repo.commits += 1
        sha = repo.sha(branch)
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.hub.url}/{prefix}{id}/commit/{sha}"
        self._json({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _resolve(self, kind: str, id: str, revision: str, path: str, method: str) -> None:
        repo = self.hub.repos.get((kind, id))
        if repo is None or (repo.private and self.headers.get("Authorization") != f"Bearer {self.hub.token}"):
            return self._error(404, "Repository not found", "RepoNotFound")
        files = repo.files(revision)
        if files is None:
            return self._error(404, "Invalid rev id", "RevisionNotFound")
        if path not in files:
            return self._error(404, "Entry not found", "EntryNotFound")
        branch = next(name for name in repo.branches if repo.branches[name] is files)
        data = files[path]
        headers = {
            "X-Repo-Commit": repo.sha(branch),
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'inline; filename="{path.rsplit("/", 1)[-1]}"',
        }
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        status = 200
        if wanted:
            start, stop = int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else len(data)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{min(stop, len(data)) - 1}/{len(data)}"
            data = data[start:stop]
        if method == "GET":
            with self.hub.lock:
                if path in self.hub.cut_downloads:
                    self.hub.cut_downloads.remove(path)
                    headers["Content-Length"] = str(len(data))
                    data, self.close_connection = data[: len(data) // 2], True
                self.hub.served += len(data)
        self._send(status, data, headers, method)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"}, self.command)

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"Content-Type": "application/json", "X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        self._send(status, json.dumps({"error": message}).encode(), headers, self.command)

    def _send(self, status: int, data: bytes, headers: dict[str, str], method: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(data)


def _entry(name: str, data: bytes) -> dict[str, Any]:
    """Return a file's entry in a listing: Git's hash, and the SHA-256 of a large file."""
    entry = {"type": "file", "path": name, "size": len(data), "oid": _git_hash(data)}
    if _is_large({"path": name, "size": len(data)}):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_large(file: dict[str, Any]) -> bool:
    return file["path"].endswith((".parquet", ".safetensors", ".tar")) or int(file.get("size") or 0) > 1_000_000
