"""Sound → caption → picture: the one thing a Python user needs."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from a2i import plugins
from a2i.captioner import Captioner
from a2i.captioner.batching import Heard, Part, Sound, batches_by_length, read_groups
from a2i.diffusion import Painter
from a2i.machine import release
from a2i.paths import AUDIO_LANGUAGE_MODELS, CONF, MINI_CAPTIONER
from a2i.result import Result

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from a2i.captioner.audio_language import AudioLanguageCaptioner


class AudioToImage:
    """Hears a sound, says what it heard, and draws it.

    >>> a2i = AudioToImage.load()
    >>> result = a2i("dog.wav")
    >>> result.caption, result.image
    """

    def __init__(
        self, captioner: "Captioner | AudioLanguageCaptioner", painter: Painter | None, name: str = "captioner"
    ) -> None:
        """Put together what is loaded already; `load` does both.

        Args:
            captioner: as `load_captioner` gives it.
            painter: None for captions alone.
            name: of the captioner, for the results.
        """
        self.captioner = captioner
        self.painter = painter
        self.name = name

    @classmethod
    def load(
        cls,
        captioner: "str | Path | Captioner | AudioLanguageCaptioner | None" = None,
        image: str | Path | dict[str, Any] | Painter | None = "mini",
        device: str | torch.device | None = None,
        audio_language: dict[str, Any] | None = None,
    ) -> "AudioToImage":
        """Load both models.

        Args:
            captioner: captioner folder; a name of `conf/audio_language`, such as `qwen2_audio`; a captioner; or None for the
                small one that comes with a2i.
            image: `mini` for the small one that comes with a2i, another name of `conf/image`, a local folder or Hub id in
                diffusers' format, `Painter`'s arguments, a `Painter`, or None or `none` for captions alone.
            device: None for CUDA where there is one, else the CPU.
            audio_language: `AudioLanguageCaptioner`'s arguments, where other than the named one's.

        Raises:
            FileNotFoundError: there is no captioner in the folder.
            ValueError: a model does not fit or can't be had.
        """
        device = find_device(device)
        name = str(captioner) if isinstance(captioner, str | Path) else getattr(captioner, "name", "captioner")
        if captioner is None:
            captioner, name = MINI_CAPTIONER, "a2i-mini-captioner"
        heard = load_captioner(captioner, device, audio_language)
        return cls(heard, _painter(image, device), name)

    def __call__(
        self,
        sound: "Sound | ArrayLike",
        seed: int = 0,
        show_progress: bool = False,
        sampling_rate: float | None = None,
        **decoding: Any,
    ) -> Result:
        """Caption a sound and draw the caption.

        >>> a2i("dog.wav")
        >>> a2i(waveform, sampling_rate=44_100)

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
        """Caption and draw many sounds, in their order, each as soon as it is done. What is wrong with one stops no other.

        Args:
            sounds: sound files, and pairs of an array and its sampling rate; read as they are needed.
            seed: of each.
            batch_size: clips that are captioned at once. Sampled captions are drawn clip by clip, since each has its seed.
            picture_batch: pictures that are drawn at once.
            show_progress: a bar over a picture's denoising steps.
            **decoding: changes of the captioner's decoding settings, by name.

        Yields:
            for each sound what a call would give, or the exception that it would raise. Batches change results by no more
            than the rounding of their sums.

        Raises:
            ValueError: a decoding setting does not fit.
        """
        if self.captioner.decoding_with(**decoding).do_sample:
            batch_size = 1
        for group in read_groups(sounds, max(batch_size, picture_batch)):
            for batch in batches_by_length(group, batch_size):
                self._caption(batch, seed, decoding)
            for long in (each for each in group if each.source is not None):
                self._caption_parts(long, seed, decoding)
            for first in range(0, len(group), picture_batch):
                heard = group[first : first + picture_batch]
                self._draw(heard, seed, show_progress)
                yield from (self._result(each, seed) for each in heard)

    def _caption(self, batch: list[Heard], seed: int, decoding: dict[str, Any]) -> None:
        """Give each its candidates, or the error that it makes alone."""
        began, failed = time.perf_counter(), False
        try:
            # Sampling draws from torch's own state: seeded here, and given back as it was.
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                found = self.captioner.caption([each.waveform for each in batch], **decoding)
            for each, candidates in zip(batch, found, strict=True):
                each.candidates = candidates
        except Exception as error:
            failed = True
            release(error)
            if len(batch) == 1:
                batch[0].error = error
        # Not within `except`, where the error is alive, and with it what the whole batch takes.
        if failed and len(batch) > 1:
            for each in batch:
                self._caption([each], seed, decoding)
            return
        for each in batch:
            each.seconds += (time.perf_counter() - began) / len(batch)

    def _caption_parts(self, heard: Heard, seed: int, decoding: dict[str, Any]) -> None:
        """Caption a long recording part by part; the candidates are those of the part that is told most surely."""
        parts, began = [], time.perf_counter()
        try:
            for start, end, waveform in heard.spans():
                self._caption([one := Heard(waveform)], seed, decoding)
                if one.error is not None:
                    raise one.error
                parts.append(Part(start, end, one.candidates[0].caption, one.candidates[0].confidence))
                if not heard.candidates or one.candidates[0].confidence > heard.candidates[0].confidence:
                    heard.candidates = one.candidates
            heard.parts = tuple(parts)
        except Exception as error:
            heard.error = error
        heard.seconds += time.perf_counter() - began

    def _draw(self, heard: list[Heard], seed: int, show_progress: bool) -> None:
        """Give each its picture, or the error that it makes alone."""
        began, well = time.perf_counter(), [each for each in heard if each.error is None]
        if self.painter is None or not well:
            return
        captions, failed = [each.candidates[0].caption for each in well], False
        try:
            drawn = self.painter.draw_batch(captions, [seed] * len(well), show_progress)
            for each, drawing in zip(well, drawn, strict=True):
                each.drawing = drawing
        except Exception as error:
            failed = True
            release(error)
            if len(well) == 1:
                well[0].error = error
        if failed and len(well) > 1:  # see `_caption`
            for each in well:
                self._draw([each], seed, show_progress)
            return
        for each in well:
            each.seconds += (time.perf_counter() - began) / len(well)

    def _result(self, heard: Heard, seed: int) -> Result | Exception:
        if heard.error is not None:
            return heard.error
        candidates, drawing = heard.candidates, heard.drawing
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
            seconds=heard.seconds,
            parts=heard.parts,
            warning=heard.warning,
        )


def load_captioner(
    captioner: "str | Path | Captioner | AudioLanguageCaptioner",
    device: torch.device,
    audio_language: dict[str, Any] | None = None,
) -> "Captioner | AudioLanguageCaptioner":
    """The captioner of a folder, or of a name in `conf/audio_language`; one that is loaded already is given back.

    Args:
        captioner: folder, name or captioner.
        device: to load it to.
        audio_language: `AudioLanguageCaptioner`'s arguments, where other than the named one's.

    Raises:
        FileNotFoundError: there is no captioner in the folder.
        ValueError: it does not fit or can't be had.
    """
    if not isinstance(captioner, str | Path):
        return captioner
    if captioner not in AUDIO_LANGUAGE_MODELS:
        try:
            return Captioner.load(Path(captioner).expanduser(), device)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}, or one of {', '.join(AUDIO_LANGUAGE_MODELS)}") from error
    # Not before it is asked for: it takes a second of its own to import.
    from a2i.captioner.audio_language import AudioLanguageCaptioner

    settings = audio_language or yaml.safe_load((CONF / "audio_language" / f"{captioner}.yaml").read_text("utf-8"))
    return AudioLanguageCaptioner(**{key: value for key, value in settings.items() if key != "_target_"}, device=device)


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of that name; None for CUDA where there is one, else the CPU.

    Raises:
        ValueError: there is none of that name, or not here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"got device={name!r}, which can't be used here; expected cpu, cuda or cuda:N") from error
    return device


def _painter(image: str | Path | dict[str, Any] | Painter | None, device: torch.device) -> Painter | None:
    if image is None or image == "none" or isinstance(image, Painter):
        return None if image == "none" else image  # type: ignore[return-value]
    if isinstance(image, dict):
        settings = dict(image)
        made: Any = plugins.part(settings.pop("_target_", None)) or Painter
        return made(**settings, device=device)
    named = None if isinstance(image, Path) or "/" in image else plugins.chosen("image", image)
    if named is not None:
        settings = yaml.safe_load(named.read_text(encoding="utf-8"))
        return _painter(settings, device)
    return Painter(str(image), device=device)
