"""Sounds, spectrograms and pictures as data URIs, small enough that a page holds hundreds."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from a2i import audio
from a2i.features import LogMel
from a2i.report.figures import time_ticks

MAX_SECONDS = 60.0  # of a sound that a page holds
# Hz of a page's players and spectrograms: the page's own, whatever a captioner hears. Spectrograms are AST's log-mel.
RATE = 16_000
# MP3, since every browser plays it (Safari takes Ogg only lately), and soundfile's comes back with the same samples'
# count and the same bytes each time, where its Ogg has a random serial number. About 28 kbit/s for 16 kHz mono.
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
RANGE = 80.0  # dB below a clip's loudest that a spectrogram shows
WIDTH = 480  # pixels of a spectrogram, at most
PICTURE = 256  # pixels of a picture, at most, on both sides


@dataclass(frozen=True)
class Sound:
    """A sound for a page.

    Attributes:
        seconds: its length.
        cut: whether it was longer than `MAX_SECONDS`.
        player: data URI of an MP3, mono, at `RATE`; None if it was not wanted.
        spectrogram: data URI of a WebP picture of its log-mel.
        ticks: of the time axis, see `time_ticks`.
    """

    seconds: float
    cut: bool
    player: str | None
    spectrogram: str
    ticks: list[tuple[float, str]]


def embed_sound(
    path: Path | audio.Held, start: float | None, end: float | None, log_mel: LogMel, with_player: bool = True
) -> Sound:
    """Read a sound file, at most its first minute, for a page.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be used; see `a2i.audio.load`.
    """
    last = (start or 0.0) + MAX_SECONDS
    # A second more tells whether there would have been more.
    waveform = audio.load(path, RATE, start, last + 1 if end is None else min(end, last + 1))
    samples = round(MAX_SECONDS * RATE)
    cut, waveform = len(waveform) > samples, waveform[:samples]
    seconds = len(waveform) / RATE
    player = encode_sound(waveform) if with_player else None
    return Sound(seconds, cut, player, _image_uri(spectrogram(waveform, log_mel), 60), time_ticks(seconds))


def encode_sound(waveform: np.ndarray) -> str:
    """(samples,) float32 at `RATE` → data URI of an MP3 that decodes to as many samples."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, **MP3)
    return _uri("audio/mpeg", file.getvalue())


def spectrogram(waveform: np.ndarray, log_mel: LogMel) -> Image.Image:
    """(samples,) at `RATE` → RGB picture of its log-mel, a pixel a mel bin and low frequencies at the bottom.

    The colours span the 80 dB below the clip's loudest frame and bin. At most 480 frames or means of frames wide.
    """
    import matplotlib

    features, _ = log_mel(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    values = features[0].T.flip(0).numpy() * 2 * log_mel.settings.std  # natural logarithm of power, but for the mean
    together = -(-values.shape[1] // WIDTH)
    edges = np.arange(0, values.shape[1], together)
    values = np.add.reduceat(values, edges, axis=1) / np.diff([*edges, values.shape[1]])
    decibels = values * 10 / np.log(10)
    decibels = (decibels - decibels.max()) / RANGE + 1
    return Image.fromarray((matplotlib.colormaps["magma"](decibels.clip(0, 1))[..., :3] * 255).astype(np.uint8))


def embed_picture(image: Path | Image.Image, side: int = PICTURE) -> str:
    """Picture, or its file → data URI of a WebP of at most `side` × `side` px; what is transparent becomes white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read as a picture.
    """
    return _image_uri(small_picture(image, side), 80)


def small_picture(image: Path | Image.Image, side: int) -> Image.Image:
    """Picture, or its file → RGB picture of at most `side` × `side` px; what is transparent becomes white.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read as a picture.
    """
    if isinstance(image, Path):
        path = image
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGBA")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such file; expected a picture") from None
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: can't be read as a picture ({error}); expected PNG, JPEG or WebP") from error
    small = image.convert("RGBA")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", small.size, "white")
    return Image.alpha_composite(ground, small).convert("RGB")


def _image_uri(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=quality, method=4)
    return _uri("image/webp", file.getvalue())


def _uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
