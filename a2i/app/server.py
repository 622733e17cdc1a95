"""Serves the page on one address, asks no other machine for anything, and leaves nothing behind."""

import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from a2i.app.settings import AppSettings
from a2i.pipeline import AudioToImage

# Before Gradio is imported: it counts its users, and so does the Hub's client for it.
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

STYLES = Path(__file__).parent / "page.css"
SCRIPT = Path(__file__).parent / "page.js"
API = "/gradio_api/"
# What the page asks for there. Gradio has more: it would have FFmpeg open what a play list names, and keep records.
ASKED = ("file=", "heartbeat/", "queue/", "run/", "startup-events", "upload")
FETCHES_NOTHING = "this page fetches nothing from other machines"
LARGEST_MESSAGE = 1_000_000  # bytes of what a page sends beside sounds
PAGES = 200  # open at once, as far as Gradio remembers what it holds for them
FOLDERS, LOCK = "a2i-app-", ".lock"  # begins the names of folders for what is sent; who holds it is running
NEW, OLD = 60.0, 86_400.0  # seconds
LEFT = 600.0  # seconds after which an upload that nobody took is deleted


class Guard:
    """Refuses what the page never asks for, what would have Gradio's server fetch something from another machine, and what
    pages of other sites send.

    Args:
        app: that is guarded, an ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer with 403, 404 or 413, or have the application answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from starlette.responses import PlainTextResponse

        path, headers = scope["path"], dict(scope["headers"])
        if path.startswith(API) and not path.startswith(ASKED, len(API)):
            return await PlainTextResponse("this page asks for no such thing", 404)(scope, receive, send)
        if re.match(rf"{API}file=\w+:/", path):
            return await PlainTextResponse(FETCHES_NOTHING, 403)(scope, receive, send)
        if scope["method"] == "POST" and headers.get(b"sec-fetch-site") == b"cross-site":
            return await PlainTextResponse("a page of another site can't send anything", 403)(scope, receive, send)
        if headers.get(b"content-type", b"").startswith(b"multipart/"):  # a sound, which Gradio bounds
            return await self.app(scope, receive, send)
        messages: list[Any] = []
        size = 0
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
            size += len(messages[-1].get("body", b""))
            if size > LARGEST_MESSAGE:
                return await PlainTextResponse("the message is too long", 413)(scope, receive, send)
        if _names_elsewhere(b"".join(message.get("body", b"") for message in messages)):
            return await PlainTextResponse(FETCHES_NOTHING, 403)(scope, receive, send)
        left = iter(messages)

        async def again() -> Any:
            return next(left, None) or await receive()

        return await self.app(scope, again, send)


def _names_elsewhere(body: bytes) -> bool:
    """Whether a file in a message from the page is an address, which the server would download."""
    try:
        parts = [json.loads(body)] if body else []
    except (ValueError, RecursionError):
        return False  # Gradio says what is wrong
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "://" in str(part.get("path", "")):
                return True
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return False


@contextmanager
def serving(a2i: AudioToImage, settings: AppSettings, port: int, style: str = "none") -> Iterator[str]:
    """Serve the page in threads while the context lasts.

    Args:
        a2i: both models, loaded.
        settings: checked.
        port: a free one.
        style: name of the pictures' style.

    Yields:
        the page's address.

    Raises:
        OSError: the port was taken meanwhile.
    """
    with own_folder() as temporary, _uploads_in(temporary / "uploads") as uploads:
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from a2i.app.hearing import make_examples
        from a2i.app.page import Limits, Page
        from a2i.app.sessions import Sessions
        from a2i.app.theme import theme

        folders = [temporary / name for name in ("examples", "sounds")]
        for folder in folders:
            folder.mkdir()
        sessions = Sessions(folders[1])
        limits = Limits(settings.max_seconds, settings.max_megabytes)
        page = Page(a2i, sessions, make_examples(folders[0]), limits, settings.decoding, style).build()
        page.queue(max_size=settings.queue)
        guards = [Middleware(Guard)]
        if not settings.is_for_others:
            # A page elsewhere whose name is made to mean this machine would be let in as this one.
            guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[", "::1"]))
        ended = threading.Event()
        sweeper = threading.Thread(target=_sweep_until, args=(ended, uploads), daemon=True)
        try:
            sweeper.start()
            _, address, _ = page.launch(
                server_name=settings.host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=settings.max_megabytes * 10**6,
                allowed_paths=[],
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                state_session_capacity=PAGES,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                app_kwargs={"middleware": guards, "docs_url": None, "redoc_url": None, "openapi_url": None},
                theme=theme(),
                css_paths=STYLES,
                head=f"<script>const MEGABYTES = {settings.max_megabytes};\n{SCRIPT.read_text(encoding='utf-8')}</script>",
            )
            yield address
        finally:
            ended.set()
            sessions.end_all()
            page.close(verbose=False)


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for what is sent here, held by a lock and gone at the end. Those of apps that were killed go now."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with suppress(OSError, Timeout):
            # One of another user may lead anywhere. One without a lock is of an earlier version, or just being made.
            age = NEW if (left / LOCK).exists() else OLD
            if _is_ours(left) and time.time() - left.stat().st_mtime > age:
                with FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
                shutil.rmtree(left, ignore_errors=True)  # with the lock's file, which Windows keeps while it is held
    with tempfile.TemporaryDirectory(prefix=FOLDERS) as temporary, FileLock(Path(temporary) / LOCK):
        yield Path(temporary)


def _is_ours(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def sweep(folder: Path, age: float = LEFT) -> None:
    """Delete the files in a folder and its folders that have not changed for so many seconds: uploads that broke off."""
    for place, _, names in os.walk(folder):  # unlike glob it goes on where a folder vanishes meanwhile
        for path in (Path(place, name) for name in names):
            with suppress(OSError):  # another thread took it
                if time.time() - path.stat().st_mtime > age:
                    path.unlink()


def _sweep_until(ended: threading.Event, folder: Path) -> None:
    while not ended.wait(LEFT / 10):
        sweep(folder)


@contextmanager
def _uploads_in(folder: Path) -> Iterator[Path]:
    """Have Gradio write what is sent to a folder of its own."""
    name = "GRADIO_TEMP_DIR"
    before = os.environ.get(name)
    os.environ[name] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
