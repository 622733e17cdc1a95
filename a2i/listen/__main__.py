"""`python -m a2i.listen`: hear the microphone, say what is heard, and draw each new scene."""

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from a2i.command_line import INTERRUPTED, entry_point
from a2i.compose import check_decoding, check_out, check_seed, checked, plain
from a2i.image_settings import styled
from a2i.infer import say, shown
from a2i.machine import begin_program, leave_others_alone
from a2i.names import with_revision
from a2i.whole import not_written

if TYPE_CHECKING:
    from a2i.listen.live import Heard
    from a2i.listen.pictures import Drawer
    from a2i.listen.sources import Source
    from a2i.pipeline import AudioToImage

FILE = "captions.jsonl"
LOCK = ".listen.lock"
LIST = "list"  # as a microphone: show those that there are
LONGEST = 60.0  # seconds of a window; captioners learn from clips of up to half a minute


@dataclass(frozen=True)
class ListenSettings:
    """The settings of `conf/listen.yaml`, checked; that file tells what each is."""

    audio: str | None
    microphone: int | str | None
    window: float
    every: float
    seconds: float | None
    speed: float
    sure: float
    captioner: dict[str, Any]
    image: dict[str, Any] | None
    style: dict[str, Any] | None
    decoding: dict[str, Any]
    out: str
    seed: int
    device: str | None

    def __post_init__(self) -> None:
        for name, least, most in (("window", 0.5, LONGEST), ("every", 0.1, 3600.0), ("speed", 0.01, 1000.0)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(
                    f"got {name}={getattr(self, name):g}; expected a number from {least:g} to {most:g}, in"
                    f" {'times real time' if name == 'speed' else 'seconds'}"
                )
        if self.seconds is not None and self.seconds < self.window:
            raise ValueError(
                f"got seconds={self.seconds:g} with window={self.window:g}; expected at least one window, or null for no end"
            )
        if not 0 <= self.sure <= 1:
            raise ValueError(f"got sure={self.sure:g}; expected a probability from 0 to 1")
        if self.audio is None and self.speed != 1:
            raise ValueError(f"got speed={self.speed:g} with the microphone; expected it with audio=FILE alone")
        if self.audio is not None and self.microphone is not None:
            raise ValueError(f"got audio={self.audio} beside microphone={self.microphone}; expected one of the two")
        check_seed(self.seed)
        check_out(self.out)


def check(settings: dict[str, Any]) -> ListenSettings:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `out`.
    """
    captioner = with_revision(settings["captioner"], settings.get("captioner_revision"))
    image = styled(settings["image"], settings["style"])
    made = checked(ListenSettings, settings | {"captioner": captioner, "image": image})
    check_decoding(made.decoding)
    return made


class Screen:
    """Where lines are shown: on a terminal above a line that tells how it goes, elsewhere plainly."""

    def __init__(self) -> None:
        self.status = ""
        self._console: Any = None

    @contextmanager
    def open(self) -> Iterator["Screen"]:
        """Show the line while the block runs."""
        if not sys.stdout.isatty():
            yield self
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._console = Console()
        with Live(
            get_renderable=lambda: Text(self.status, style="dim", no_wrap=True, overflow="ellipsis"),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        ):
            yield self

    def tell(self, line: str, is_error: bool = False) -> None:
        """Show a line."""
        if self._console is None:
            say(line, error=is_error)
        else:
            style = "red" if is_error else None
            self._console.print(shown(line), style=style, markup=False, highlight=False, soft_wrap=True)


def run(settings: ListenSettings) -> int:
    """Listen until the file ends, `seconds` are over, or the user interrupts.

    Returns:
        how many windows failed, and pictures.

    Raises:
        ImportError, OSError, ValueError: there is no microphone or no such file, or what was heard can't be written.
    """
    if settings.microphone == LIST:
        from a2i.listen.sources import microphones

        for line in microphones() or ["found no microphone"]:
            say(line)
        return 0
    folder = Path(settings.out)
    with _alone(folder):
        return _listen(settings, *_load(settings), folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one who writes captions and pictures there: two would give their pictures the same names.

    The folder is made; where nothing comes of it, it goes.
    """
    from filelock import FileLock, Timeout

    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"got out={folder}, where another a2i.listen is writing; expected another folder: out=FOLDER"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()  # while it is still held
        lock.release()
        if made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _listen(settings: ListenSettings, a2i: "AudioToImage", source: "Source", folder: Path) -> int:
    screen = Screen()
    drawer = None
    if a2i.painter is not None:
        from a2i.listen.pictures import Drawer

        drawer = Drawer(a2i, folder, settings.seed, screen.tell)
    say(f"listening to {source.name}; Ctrl-C ends it")
    screen.status = "listening"
    with screen.open():
        failed = _hear(settings, a2i, source, drawer, screen)
    if drawer is not None and drawer.is_busy:
        # Interrupted twice. PyTorch aborts where Python ends under a thread of its own, and says so.
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    return failed + (drawer.failed if drawer else 0)


def _hear(
    settings: ListenSettings, a2i: "AudioToImage", source: "Source", drawer: "Drawer | None", screen: Screen
) -> int:
    from a2i.listen.live import Scenes, Summary, captions

    summary, scenes, path = Summary(), Scenes(settings.sure), Path(settings.out) / FILE
    ended: Exception | None = None
    timing = (settings.window, settings.every, settings.speed, settings.seconds, settings.seed)
    try:
        # Unbuffered: a line is in the file, whole, when it is on the screen.
        with path.open("ab", buffering=0) as file:
            for found in captions(a2i.captioner, source, *timing, **settings.decoding):
                summary.add(found)
                begins = scenes.begins(found)
                _append(file, _row(found, begins), path)
                screen.tell(_line(found), found.error is not None)
                screen.status = f"listening: {summary.line()}"
                if begins and drawer is not None:
                    drawer.ask(found)
    except KeyboardInterrupt:
        screen.tell("")
    except Exception as error:  # as of a microphone that is gone: what was heard before is drawn and told first
        ended = error
    if drawer is not None:
        if drawer.is_busy:
            screen.tell("the last picture is being drawn; Ctrl-C ends without it")
        try:
            drawer.finish()
        except KeyboardInterrupt:
            screen.tell("")
    told = summary.line()
    if drawer is not None:
        told += f"; {drawer.drawn:,} picture{'s' * (drawer.drawn != 1)}"
        told += f", {drawer.passed_over:,} scenes without one" if drawer.passed_over else ""
    if source.lost:
        told += f"; the machine was too busy to take all sound, {source.lost:,} times"
    screen.tell(f"{told}; all in {settings.out}")
    if ended is not None:
        raise ended
    return summary.failed


def _append(file: FileIO, row: dict[str, Any], path: Path) -> None:
    line, end = (json.dumps(row) + "\n").encode(), file.seek(0, os.SEEK_END)
    try:
        if file.write(line) < len(line):  # as much as the disk had room for
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        with suppress(OSError):
            file.truncate(end)
        raise not_written(path, error) from error


def _row(found: "Heard", begins: bool) -> dict[str, Any]:
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(found).items()}
    return rounded | {"time": found.time.isoformat(timespec="milliseconds"), "scene": begins}


def _line(found: "Heard") -> str:
    time = f"{found.time:%H:%M:%S}"
    return f"{time}  {found.caption} ({found.confidence:.0%} sure)" if found.error is None else f"{time}  {found.error}"


def _load(settings: ListenSettings) -> "tuple[AudioToImage, Source]":
    import numpy as np

    from a2i.listen.sources import Microphone, Played
    from a2i.loading import load

    # Before the models, which take seconds to load.
    microphone = None if settings.audio is not None else Microphone(settings.microphone, settings.window)
    a2i = load(settings, say)
    rate = a2i.captioner.sampling_rate
    # Threads that wait for each other on a busy machine are late together; pictures have use for the other cores.
    leave_others_alone()
    # The first caption takes twice as long as the others, whatever it is of.
    a2i.captioner.caption([np.zeros(round(settings.window * rate), np.float32)], **settings.decoding)
    return a2i, microphone or Played(settings.audio or "", rate, settings.window, settings.speed)


@entry_point("listen", bare="audio")
def main(config: DictConfig) -> None:
    """Entry point, whose exit status is 1 if a caption or a picture failed, and 0 after Ctrl-C."""
    if run(check(plain(config))):
        sys.exit(1)


def program() -> None:
    """The console script."""
    begin_program()
    main()


if __name__ == "__main__":
    program()
