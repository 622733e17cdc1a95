"""Sound → caption → picture: the one thing a Python user needs."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from a2i.captioner.batching import CaptionResult, Sound, batch_or_each, caption_many
from a2i.captioner.protocols import CaptionModel
from a2i.diffusion import Drawing, PictureModel
from a2i.machine import find_device
from a2i.models import load_captioner, load_painter
from a2i.names import MINI
from a2i.result import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class AudioToImage:
    """Captions a sound and draws the caption. Several threads may call one.

    Examples:
        >>> a2i = AudioToImage.from_pretrained()
        >>> result = a2i("bell.wav")
        >>> result.caption
        'A bell rings several times.'
        >>> result.image.size
        (128, 128)
    """

    def __init__(self, captioner: CaptionModel, painter: PictureModel | None, name: str = "captioner") -> None:
        """Put together what is loaded already; `from_pretrained` does both.

        Args:
            captioner: as `a2i.models.load_captioner` gives it.
            painter: None for captions alone.
            name: of the captioner, for the results.
        """
        self.captioner = captioner
        self.painter = painter
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        captioner: str | Path | dict[str, Any] | CaptionModel | None = MINI,
        image: str | Path | dict[str, Any] | PictureModel | None = MINI,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        style: str | dict[str, Any] | None = None,
        captioner_revision: str | None = None,
    ) -> "AudioToImage":
        """Load both models. `load` is a second name of it, after `Captioner.load`; this one is that of transformers.

        Examples:
            >>> hears = AudioToImage.load(image=None)  # captions alone
            >>> hears("bell.wav").image is None
            True

        Args:
            captioner: `mini` or None for the small one that comes with a2i, another name of `conf/captioner` such as
                `qwen2_audio`, a captioner folder, the Hub id of one, settings as `conf/captioner` holds them, or a captioner.
            image: `mini` for the small one that comes with a2i, another name of `conf/image`, a local folder or Hub id in
                diffusers' format, `Painter`'s arguments, a picture model, or None or `none` for captions alone.
            device: None for CUDA where there is one, else Apple's GPU, else the CPU.
            dtype: `float32`, `bfloat16` or `float16`, for both models: the weights of a picture model and of an audio-language
                model, the decoding precision of a captioner folder (no `float16`). None for each model's own: float32, but
                half of that for pictures on CUDA.
            style: of the pictures: `photo`, `watercolour`, `ink` or another name of `conf/style`, or settings as such a file
                holds them. The small painter draws without.
            captioner_revision: of a captioner on the Hub: branch, tag or commit; None for the newest.

        Raises:
            FileNotFoundError: there is no model of that name or in that folder.
            ValueError: a model does not fit or can't be loaded, or the device can't be used here.
        """
        device = find_device(device)
        dtype = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else dtype
        loaded = load_captioner(MINI if captioner is None else captioner, device, dtype, captioner_revision)
        if captioner in (None, MINI):
            name = "a2i-mini-captioner"
        else:
            name = str(captioner) if isinstance(captioner, str | Path) else loaded.name
            if captioner_revision is not None and not name.endswith(f"@{captioner_revision}"):
                name += f"@{captioner_revision}"
        return cls(loaded, load_painter(image, device, dtype, style), name)

    load = from_pretrained

    def to(self, device: str | torch.device) -> "AudioToImage":
        """Move both models to a device.

        Raises:
            ValueError: the device can't be used here.
        """
        device = find_device(device)
        self.captioner.to(device)
        if self.painter is not None:
            self.painter.to(device)
        return self

    def __call__(
        self,
        sound: "Sound | ArrayLike",
        seed: int = 0,
        show_progress: bool = False,
        sampling_rate: float | None = None,
        **decoding: Any,
    ) -> Result:
        """Caption a sound and draw the caption.

        Examples:
            >>> a2i(waveform, sampling_rate=44_100).caption
            'A bell rings several times.'
            >>> a2i("bell.wav", seed=1, num_candidates=2).candidates[0]
            'A bell rings several times.'

        Args:
            sound: a sound file, or an array of samples, of any type and with one channel or several; see
                `a2i.audio.waveforms.from_array`.
            seed: of sampling, where captions are sampled, and of the picture.
            show_progress: a bar over the picture's denoising steps.
            sampling_rate: of an array, in Hz; a file says its own.
            **decoding: changes of the captioner's decoding settings, by name.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the sound can't be used; see `a2i.audio.load` and `a2i.audio.waveforms.from_array`.
        """
        if sampling_rate is not None:
            if isinstance(sound, str | os.PathLike):
                raise ValueError(f"got sampling_rate={sampling_rate} for {sound}; expected none: a file says its own")
            sound = sound, sampling_rate
        (result,) = self.each([sound], seed, show_progress=show_progress, **decoding)  # type: ignore[list-item]
        if isinstance(result, Exception):
            raise result
        return result

    def each(
        self,
        sounds: Iterable[Sound],
        seed: int = 0,
        batch_size: int = 1,
        picture_batch: int = 1,
        show_progress: bool = False,
        **decoding: Any,
    ) -> Iterator[Result | Exception]:
        """Caption and draw many sounds in their order, each as soon as it is done. A sound that fails stops no other.

        Examples:
            >>> for sound, result in zip(["bell.wav", "gone.wav"], a2i.each(["bell.wav", "gone.wav"])):
            ...     print(sound, type(result).__name__)
            bell.wav Result
            gone.wav FileNotFoundError

        Args:
            sounds: as `a2i.captioner.batching.caption_many` takes them; read as they are needed.
            seed: of each.
            batch_size: clips that are captioned at once; sampled captions are found clip by clip.
            picture_batch: pictures that are drawn at once.
            show_progress: a bar over a picture's denoising steps.
            **decoding: changes of the captioner's decoding settings, by name.

        Yields:
            for each sound what a call would give, or the exception that it would raise. Batches change results by no more
            than the rounding of their sums.

        Raises:
            ValueError: a decoding setting does not fit.
        """
        captioned = caption_many(self.captioner, sounds, batch_size, seed, **decoding)
        while batch := list(islice(captioned, picture_batch)):
            found = [each for each in batch if isinstance(each, CaptionResult)]
            drawings, seconds = self._draw([each.candidates[0].caption for each in found], seed, show_progress)
            drawn = iter(drawings)
            for each in batch:
                yield each if isinstance(each, Exception) else self._result(each, next(drawn), seed, seconds)

    def _draw(
        self, captions: Sequence[str], seed: int, show_progress: bool
    ) -> tuple[Sequence[Drawing | Exception | None], float]:
        """A drawing of each caption or the error that it makes alone, None without a picture model; and seconds for each."""
        if self.painter is None or not captions:
            return [None] * len(captions), 0.0
        painter, began = self.painter, time.perf_counter()
        drawings = batch_or_each(lambda some: painter.draw_batch(some, [seed] * len(some), show_progress), captions)
        return drawings, (time.perf_counter() - began) / len(captions)

    def _result(
        self, found: CaptionResult, drawing: Drawing | Exception | None, seed: int, seconds: float
    ) -> Result | Exception:
        if isinstance(drawing, Exception):
            return drawing
        candidates = found.candidates
        return Result(
            caption=candidates[0].caption,
            candidates=tuple(candidate.caption for candidate in candidates),
            image=None if drawing is None else drawing.image,
            log_probabilities=tuple(candidate.log_probability for candidate in candidates),
            confidence=candidates[0].confidence,
            seed=seed,
            captioner=self.name,
            image_model=None if self.painter is None else self.painter.name,
            flagged=None if drawing is None else drawing.flagged,
            unseen_tokens=0 if self.painter is None else self.painter.tokens_over(candidates[0].caption),
            seconds=found.seconds + seconds,
            parts=found.parts,
            warning=found.warning,
        )
