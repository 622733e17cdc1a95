"""Pictures, drawn in a thread of their own so that captions need not wait for them."""

import threading
from collections.abc import Callable
from pathlib import Path

from a2i.errors import with_kind
from a2i.listen.live import Heard
from a2i.machine import give_way, leave_others_alone
from a2i.pipeline import AudioToImage
from a2i.result import Result


class Drawer:
    """Draws one caption at a time. One that comes meanwhile waits, and gives its place to a newer one.

    Attributes:
        drawn: pictures on disk.
        failed: captions that could not be drawn.
        passed_over: captions that gave their place to a newer one.
    """

    def __init__(self, a2i: AudioToImage, folder: Path, seed: int, tell: Callable[[str, bool], None]) -> None:
        """Start the thread.

        Args:
            a2i: with a picture model.
            folder: for the pictures, named by the time of day.
            seed: of each.
            tell: shows a line, and whether it is an error.
        """
        self.drawn = self.failed = self.passed_over = 0
        self._a2i, self._folder, self._seed, self._tell = a2i, folder, seed, tell
        self._changed = threading.Condition()
        self._waiting: Heard | None = None
        self._drawing = self._ending = False
        self._thread = threading.Thread(target=self._run, name="a2i-draw", daemon=True)
        self._thread.start()

    def ask(self, found: Heard) -> None:
        """Have a caption drawn as soon as the picture before it is done."""
        with self._changed:
            self.passed_over += self._waiting is not None
            self._waiting = found
            self._changed.notify()

    @property
    def is_busy(self) -> bool:
        """Whether a picture is being drawn, or will be."""
        return self._drawing or self._waiting is not None

    def finish(self) -> None:
        """Wait until all is drawn that was asked for."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        # On few cores the captioner needs them more.
        leave_others_alone()
        give_way()
        while True:
            with self._changed:
                self._drawing = False
                self._changed.wait_for(lambda: self._waiting is not None or self._ending)
                found, self._waiting = self._waiting, None
                if found is None:
                    return
                self._drawing = True
            try:
                self._tell(f"{found.time:%H:%M:%S}  picture: {self._draw(found)}", False)
                self.drawn += 1
            except Exception as error:
                self._tell(f"{found.time:%H:%M:%S}  no picture: {with_kind(error)}", True)
                self.failed += 1

    def _draw(self, found: Heard) -> Path:
        painter, caption = self._a2i.painter, found.caption
        assert painter is not None
        assert caption is not None
        (drawing,) = painter.draw_batch([caption], [self._seed])
        result = Result(
            caption=caption,
            candidates=(caption,),
            image=drawing.image,
            log_probabilities=(found.log_probability or 0.0,),
            confidence=found.confidence or 0.0,
            seed=self._seed,
            captioner=self._a2i.name,
            image_model=painter.name,
            flagged=drawing.flagged,
            unseen_tokens=painter.tokens_over(caption),
            seconds=0.0,
        )
        return result.save(self._free(f"{found.time:%H-%M-%S}"))

    def _free(self, stem: str) -> Path:
        """A name that no picture has: a second may have two scenes, and tomorrow has the same seconds."""
        path, number = self._folder / f"{stem}.png", 1
        while path.exists():
            number += 1
            path = self._folder / f"{stem}_{number}.png"
        return path
