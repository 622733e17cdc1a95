"""A stand-in for the Hugging Face Hub, over real sockets: what looking up, downloading and uploading a model ask of it.

What it answers follows the Hub's own API (https://huggingface.co/docs/hub/api) and what `huggingface_hub` sends and expects.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import transformers.utils.hub
from huggingface_hub import close_session, hf_api

from a2i import hub

COMMIT = "c" * 40


class StandIn(ThreadingHTTPServer):
    """Repositories by name, each with its files, and how it is to refuse, if at all.

    Attributes:
        repositories: the files of each, by path.
        refusals: status and `X-Error-Code` by the part of a path for which the Hub refuses.
        cut: paths of which only the first half of the bytes is sent.
        seen: method and path of every request.
        created: bodies of the requests to make a repository.
        private: names of repositories that were made private.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.gated: set[str] = set()
        self.cut: set[str] = set()
        self.seen: list[tuple[str, str]] = []
        self.created: list[dict[str, Any]] = []
        self.private: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, folder: Path) -> None:
        """A repository with the files of a folder."""
        files = (file for file in folder.rglob("*") if file.is_file())
        self.repositories[name] = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no trouble."""


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, path))
        for part, (status, code) in self.server.refusals.items():
            if part in path:
                said = b"{}" if code else b'{"error": "The stand-in refuses.\\nAnd says more."}'
                return self._send(status, said, {"X-Error-Code": code} if code else {"Retry-After": "1"})
        if path == "/":
            return self._send(200, b"the Hub")
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            name = "{organization}/{name}".format(**self.server.created[-1])
            known = name in self.server.repositories
            if not known and self.server.created[-1].get("visibility") == "private":
                self.server.private.add(name)  # one that is there stays as it is
            self.server.repositories.setdefault(name, {})
            return self._json({"url": f"{self.server.address}/{name}"}, 409 if known else 200)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.startswith("/api/models/"):
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
            return self._api(f"{owner}/{name}", rest, body)
        owner, name, _, revision, *rest = [*path.strip("/").split("/"), "", "", "", ""]
        return self._file(f"{owner}/{name}", revision, "/".join(rest).strip("/"))

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        files = self.server.repositories.get(name)
        if files is None:
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        what, revision = [*rest, "", ""][:2]
        if what in ("revision", "tree") and revision not in ("main", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if what == "auth-check":
            gated = name in self.server.gated
            return self._send(403 if gated else 200, b"{}", {"X-Error-Code": "GatedRepo"} if gated else {})
        if what == "tree":
            return self._json(
                [
                    {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for path, content in files.items()
                ]
            )
        if what == "preupload":
            asked = [each["path"] for each in json.loads(body)["files"]]
            return self._json(
                {"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in asked]}
            )
        if what == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del files[line["value"]["path"]]
            return self._json({"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})
        return self._json(
            {
                "id": name,
                "sha": COMMIT,
                "private": name in self.server.private,
                "gated": "manual" if name in self.server.gated else False,
                "cardData": _head(files.get("README.md", b"").decode()),
                "siblings": [{"rfilename": path} for path in files],
            }
        )

    def _file(self, name: str, revision: str, path: str) -> None:
        files = self.server.repositories.get(name)
        if files is None:
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        if name in self.server.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if revision not in ("main", COMMIT):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if path not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = files[path]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(200, content, headers, cut=path in self.server.cut)

    def _json(self, found: Any, status: int = 200) -> None:
        self._send(status, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True


def _head(card: str) -> dict[str, Any]:
    import yaml

    parts = card.split("---\n")
    return yaml.safe_load(parts[1]) if len(parts) > 2 else {}


@contextmanager
def standing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The stand-in in place of the Hub, with an empty cache and no token."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    use(server.address, tmp_path, monkeypatch)
    try:
        yield server
    finally:
        close_session()
        server.shutdown()
        server.server_close()
        thread.join()


def use(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process take an address for the Hub's, as `HF_ENDPOINT` does for one that begins."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # put back, whatever a program makes of it
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(hub, "_reached", [])
    monkeypatch.setattr(hub, "_known", {})
    close_session()
