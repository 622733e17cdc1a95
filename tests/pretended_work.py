"""Work that needs no models, for tests of who does it: imported by processes that start anew, so it loads little."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from a2i.results import RowSettings
from a2i.rows import Makers, Places, begun
from a2i.work import Work


@dataclass(frozen=True)
class Pretended(Work):
    """Needs no models; what a sound is called decides what becomes of the process that gets it."""

    chosen: Any = None
    settings: RowSettings = field(default_factory=lambda: RowSettings("a", None))

    def load(self, tell: Callable[[str], None]) -> Any:
        tell("loaded")
        return SimpleNamespace(name="none", painter=None, captioner=SimpleNamespace(licence=None))

    def rows(
        self, a2i: Any, sounds: Sequence[Path], places: Places, show_progress: bool = False
    ) -> Iterator[dict[str, Any]]:
        for sound in sounds:
            if "deadly" in sound.name or ("once" in sound.name and not sound.with_suffix(".seen").exists()):
                sound.with_suffix(".seen").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "full" in sound.name:
                raise OSError(28, "No space left on device")
            if "slow" in sound.name:
                time.sleep(60)
            row = begun(Makers.of(a2i), sound, places.mark(sound, sound), self.settings, self.seed)
            yield row | {"caption": places.picture_name(sound), "error": None, "seconds": 0.0}


class Stillborn(Pretended):
    def load(self, tell: Callable[[str], None]) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Missing(Pretended):
    def load(self, tell: Callable[[str], None]) -> Any:
        raise FileNotFoundError("there is no such captioner")
