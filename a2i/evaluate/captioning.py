"""The captioning of a data set: shared among ranks, kept as it goes, and stopped by no clip."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i import audio
from a2i.compose import prepared
from a2i.data import Clip
from a2i.data.captioned import Captioned
from a2i.evaluate.distributed import Ranks
from a2i.evaluate.kept import Caption, Kept, made_by

if TYPE_CHECKING:
    import numpy as np

    from a2i.captioner import Captioner
    from a2i.captioner.audio_language import AudioLanguageCaptioner
    from a2i.captioner.candidates import Candidate


def predict(captioner_folder: str | Path, settings: dict[str, Any], ranks: Ranks | None = None) -> list[Captioned]:
    """Caption a data set's split with a captioner folder, and keep nothing; see `Captioning`.

    Args:
        captioner_folder: as training leaves it; or the name of an audio-language model.
        settings: `data`, `split`, `batch_size`, `device` and `decoding`.
        ranks: who caption; None for this process alone.
    """
    return Captioning.of(captioner_folder, settings, clips_of(settings), ranks or Ranks()).run()


def clips_of(settings: dict[str, Any]) -> list[Clip]:
    """The clips of the data set's split."""
    return prepared(settings["data"]).clips(settings["split"])


@dataclass
class Captioning:
    """Clips to be captioned, with all that it takes: what is wrong with that is known before the first one.

    Attributes:
        clips: of the data set's split.
        done: captions by the clips' names.
        to_do: the other clips, the longest first.
        batch_size: clips that are captioned at once.
        decoding: changes of the captioner's decoding settings, by name.
        captioner: None where there is nothing to do.
        ranks: who caption.
        kept: where captions are kept as they come; None for nowhere.
    """

    clips: Sequence[Clip]
    done: dict[str, Caption]
    to_do: list[Clip]
    batch_size: int
    decoding: dict[str, Any]
    captioner: "Captioner | AudioLanguageCaptioner | None"
    ranks: Ranks
    kept: Kept | None = None

    @classmethod
    def of(
        cls,
        captioner_folder: str | Path,
        settings: dict[str, Any],
        clips: Sequence[Clip],
        ranks: Ranks,
        file: Path | None = None,
    ) -> "Captioning":
        """Load the captioner, and what was captioned before with the same captioner, data and settings.

        Args:
            captioner_folder: as training leaves it; or the name of an audio-language model.
            settings: `data`, `split`, `batch_size`, `device` and `decoding`.
            clips: of that data's split.
            ranks: who caption.
            file: where captions are kept; None for nowhere.

        Raises:
            FileNotFoundError: there is no captioner.
            ValueError: it can't be loaded, or a decoding setting does not fit.
            OSError: the file can't be written.
        """
        from a2i.pipeline import find_device, load_captioner

        done, kept = {}, None
        if file is not None:
            (made,) = ranks.gathered([made_by(str(captioner_folder), settings)] if ranks.first else [])
            kept = Kept(file, made)
            captions, other = kept.read(clips)
            # All ranks know what any of them finds, or their shares would not fit together.
            done = dict(ranks.gathered(list(captions.items())))
            if ranks.first:
                _tell(file, len(done), len(clips), other)
        to_do = sorted((clip for clip in clips if clip.name not in done), key=lambda clip: -_seconds(clip))
        captioner = None
        if to_do:
            device = find_device(ranks.device(settings["device"]))
            captioner = load_captioner(captioner_folder, device, settings.get("audio_language"))
            captioner.decoding_with(**settings["decoding"])
            if kept is not None:
                if ranks.first:
                    kept.begin()
                ranks.gathered([None])  # no rank adds to the file before that
        return cls(clips, done, to_do, settings["batch_size"], settings["decoding"], captioner, ranks, kept)

    def run(self) -> list[Captioned]:
        """Caption what is to do, with a progress bar. The ranks share the batches, and each has all captions in the end.

        Returns:
            the clips sorted by name, with candidates, confidence and sounds; of one that failed `error` says why.

        Raises:
            ValueError: every clip failed.
        """
        from rich.progress import track

        batches = [self.to_do[first : first + self.batch_size] for first in range(0, len(self.to_do), self.batch_size)]
        hidden = not self.ranks.first or not sys.stderr.isatty() or not batches
        ours: list[tuple[str, Caption | str]] = []
        for batch in track(self.ranks.share(batches), description="captioning", disable=hidden):
            found = list(self._captioned(batch))
            if self.kept is not None:
                self.kept.add((clip, caption) for clip, caption in found if isinstance(caption, Caption))
            ours += [(clip.name, caption) for clip, caption in found]
        self.captioner = None  # its memory is for others now
        found_by_name = {**self.done, **dict(self.ranks.gathered(ours))}
        rows = [_row(clip, found_by_name[clip.name]) for clip in {clip.name: clip for clip in self.clips}.values()]
        if all(row.error is not None for row in rows):
            raise ValueError(
                f"none of the {len(rows)} clips could be captioned; the first, {rows[0].file_name}: {rows[0].error}"
            )
        return sorted(rows, key=lambda row: row.file_name)

    def _captioned(self, batch: Sequence[Clip]) -> Iterable[tuple[Clip, "Caption | str"]]:
        """Each clip with its caption, or with what was wrong, in one line."""
        heard: list[tuple[Clip, np.ndarray]] = []
        for clip in batch:
            try:
                heard.append((clip, audio.load(clip.path, clip.start, clip.end)))
            except Exception as error:
                yield clip, in_one_line(error)
        if not heard:
            return
        found = self._tried([waveform for _, waveform in heard])
        if isinstance(found, str) and len(heard) > 1:
            # Alone each may do. Not where the error is caught, whose frames hold the failed batch in memory.
            for clip, waveform in heard:
                alone = self._tried([waveform])
                yield clip, alone if isinstance(alone, str) else _best(alone[0])
        elif isinstance(found, str):
            yield heard[0][0], found
        else:
            for (clip, _), candidates in zip(heard, found, strict=True):
                yield clip, _best(candidates)

    def _tried(self, waveforms: "list[np.ndarray]") -> "list[list[Candidate]] | str":
        """Candidates of each waveform; or what was wrong, in one line."""
        assert self.captioner is not None
        try:
            return self.captioner.caption(waveforms, **self.decoding)
        except Exception as error:
            return in_one_line(error)


def in_one_line(error: Exception) -> str:
    """What was wrong; with the error's kind where no user is expected to have caused it."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {message}"


def _best(candidates: "Sequence[Candidate]") -> Caption:
    confidence = float(candidates[0].confidence)
    return Caption(
        tuple(candidate.caption for candidate in candidates), confidence if math.isfinite(confidence) else None
    )


def _row(clip: Clip, found: Caption | str) -> Captioned:
    where: dict[str, Any] = {"audio": clip.path, "start": clip.start, "end": clip.end}
    if isinstance(found, str):
        return Captioned(clip.name, "", tuple(clip.captions), error=found, **where)
    caption = found.candidates[0]
    return Captioned(clip.name, caption, tuple(clip.captions), found.candidates, found.confidence, **where)


def _seconds(clip: Clip) -> float:
    """How long a clip is; 0 where its sound can't be read, which is told when it is captioned."""
    try:
        return clip.seconds()
    except Exception:
        return 0.0


def _tell(file: Path, done: int, count: int, other: Sequence[str]) -> None:
    if done:
        print(f"{done} of {count} clips were captioned before, with the same captioner, data and settings ({file})")
    elif other:
        print(f"the captions in {file} are of other settings ({', '.join(other)}); all clips are captioned anew")
