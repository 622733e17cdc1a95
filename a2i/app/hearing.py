"""A sound file → what it looks like, and what is heard in it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from a2i import audio
from a2i.app.scenes import make_board
from a2i.app.telling import Progress, Teller
from a2i.captioner.batching import caption_many
from a2i.features import LogMel
from a2i.pipeline import AudioToImage
from a2i.report import media

SHOWN = 600.0  # seconds of a recording that the page plays and draws
COLUMNS = 480  # of a waveform's drawing
MOST_CANDIDATES = 8
EXAMPLES = ("bell", "rain", "birdsong", "siren", "footsteps")  # made by `a2i.data.foley`


@dataclass(frozen=True)
class Look:
    """What a sound looks like.

    Attributes:
        name: of its file.
        seconds: its length.
        shown: seconds that the drawings and the player show, from its beginning.
        lows: (columns,) the least sample of each stretch of the waveform, in [-1, 1].
        highs: (columns,) the greatest.
        spectrogram: log-mel, low frequencies at the bottom.
        player: data URI of an MP3.
    """

    name: str
    seconds: float
    shown: float
    lows: np.ndarray
    highs: np.ndarray
    spectrogram: Image.Image
    player: str


def hear(
    teller: Teller, a2i: AudioToImage, sound: Path, candidates: int, max_seconds: float, decoding: dict[str, Any]
) -> None:
    """Tell the sound's `Look`, then its `CaptionResult`, or its `Board` if the captioner can't hear it as one clip; with
    `Progress` between.

    Args:
        teller: is told.
        a2i: hears; and draws the scenes of a long recording.
        sound: its file.
        candidates: captions to find, from 1 to 8.
        max_seconds: longest sound that is taken.
        decoding: changes of the captioner's decoding settings, by name.

    Raises:
        ValueError: the sound can't be used or is too long.
        FileNotFoundError: there is no such file.
        Stopped: the user stopped it.
    """
    if not 1 <= candidates <= MOST_CANDIDATES:
        raise ValueError(f"got {candidates} captions to find; expected 1 to {MOST_CANDIDATES}")
    teller.tell(Progress("Reading the sound"))
    look = look_of(sound, max_seconds)
    teller.tell(look)
    if look.seconds > a2i.captioner.longest:
        return make_board(teller, a2i, sound, decoding)
    teller.tell(Progress("Listening"))
    settings = a2i.captioner.decoding_with(**decoding)
    beams = {} if settings.do_sample else {"num_beams": max(candidates, settings.num_beams)}
    (found,) = caption_many(a2i.captioner, [sound], **decoding | beams | {"num_candidates": candidates})
    if isinstance(found, Exception):
        raise found
    teller.tell(found)


def look_of(sound: Path, max_seconds: float) -> Look:
    """Read a sound, no further than is allowed.

    Raises:
        ValueError: the sound can't be used, or is longer than `max_seconds`.
        FileNotFoundError: there is no such file.
    """
    blocks, count = [], 0
    for block in audio.Recording(sound, media.RATE).blocks():
        if count < SHOWN * media.RATE:
            blocks.append(block)
        count += len(block)
        if count > max_seconds * media.RATE:
            raise ValueError(
                f"the sound is longer than {max_seconds:g} seconds; expected a shorter one, or a larger max_seconds= where the"
                " page was started"
            )
    waveform = np.concatenate(blocks)[: round(SHOWN * media.RATE)]
    edges = np.unique(np.linspace(0, len(waveform), COLUMNS + 1).astype(int))[:-1]
    return Look(
        name=sound.name,
        seconds=count / media.RATE,
        shown=len(waveform) / media.RATE,
        lows=np.minimum.reduceat(waveform, edges),
        highs=np.maximum.reduceat(waveform, edges),
        spectrogram=media.spectrogram(waveform, _log_mel()),
        player=media.encode_sound(waveform),
    )


@cache
def _log_mel() -> LogMel:
    return LogMel()


def make_examples(folder: Path) -> dict[str, Path]:
    """Sounds to try, made here, by name.

    Args:
        folder: to write them to; it is there.
    """
    from a2i.data.foley.recipe import FoleySettings, wav_of

    made = {}
    for name in EXAMPLES:
        settings = FoleySettings(seed=1, alone=1.0, mixed=0.0, sequence=0.0, sources=(name,), max_seconds=5.5)
        made[name] = folder / f"{name}.wav"
        made[name].write_bytes(wav_of(settings, "test", 0))
    return made
