"""Captions a data set: ranks share the clips, captions are kept as they come, and a clip that fails stops no other."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2i.compose import prepared_data_set
from a2i.data import Clip
from a2i.data.captioned import Captioned
from a2i.errors import with_kind
from a2i.evaluate.distributed import Ranks
from a2i.evaluate.kept import Caption, KeptCaptions, made_by
from a2i.evaluate.settings import CaptioningSettings

if TYPE_CHECKING:
    from a2i.captioner.candidates import Candidate
    from a2i.captioner.protocols import CaptionModel


def predict(
    captioner: str | Path | dict[str, Any],
    data: dict[str, Any],
    split: str = "test",
    *,
    batch_size: int = 8,
    decoding: dict[str, Any] | None = None,
    device: str | None = None,
    seed: int = 0,
    ranks: Ranks | None = None,
) -> list[Captioned]:
    """Caption a data set's split, and keep nothing; see `Captioning`.

    Args:
        captioner: name, folder, Hub id, or settings as `conf/captioner` has them.
        data: of a data set, as `conf/data` has it.
        split: of that.
        batch_size: clips that are captioned at once.
        decoding: changes of the captioner's decoding settings, by name.
        device: None for CUDA where there is one, else the CPU.
        seed: of sampled captions.
        ranks: who caption; None for this process alone.
    """
    settings = CaptioningSettings(data, split, batch_size, decoding or {}, device, seed)
    return Captioning.of(captioner, settings, clips_of(data, split), ranks or Ranks()).run()


def clips_of(data: dict[str, Any], split: str) -> list[Clip]:
    """The clips of a data set's split."""
    return prepared_data_set(data).clips(split)


@dataclass
class Captioning:
    """Clips to be captioned, with all that it takes: what is wrong with that is known before the first one.

    Attributes:
        clips: of the data set's split.
        done: captions by the clips' names.
        to_do: the other clips, the longest first.
        settings: of the captioning.
        captioner: None where there is nothing to do.
        ranks: who caption.
        kept: where captions are kept as they come; None for nowhere.
    """

    clips: Sequence[Clip]
    done: dict[str, Caption]
    to_do: list[Clip]
    settings: CaptioningSettings
    captioner: "CaptionModel | None"
    ranks: Ranks
    kept: KeptCaptions | None = None

    @classmethod
    def of(
        cls,
        captioner: str | Path | dict[str, Any],
        settings: CaptioningSettings,
        clips: Sequence[Clip],
        ranks: Ranks,
        file: Path | None = None,
    ) -> "Captioning":
        """Load the captioner, and what was captioned before with the same captioner, data and settings.

        Args:
            captioner: name, folder, Hub id, or settings as `conf/captioner` has them.
            settings: of the captioning.
            clips: of that data's split.
            ranks: who caption.
            file: where captions are kept; None for nowhere.

        Raises:
            FileNotFoundError: there is no captioner.
            ValueError: it can't be loaded, a decoding setting does not fit, or the ranks have different clips.
            OSError: the file can't be written.
        """
        from a2i.machine import find_device
        from a2i.models import licence_line, load_captioner  # here: --help and a wrong name need not wait for torch
        from a2i.rerank import reranked

        # Before `made_by`, which downloads a captioner to tell what it is.
        if ranks.first and isinstance(captioner, dict) and (line := licence_line("captioner", captioner)):
            print(line)
        done, kept = {}, None
        if file is not None:
            (made,) = ranks.gathered([made_by(captioner, settings)] if ranks.first else [])
            kept = KeptCaptions(file, made)
            captions, other = kept.read(clips)
            # All ranks know what any of them finds, or their shares would not fit together.
            done = dict(ranks.gathered(list(captions.items())))
            if ranks.first:
                _tell(file, len(done), len(clips), other)
        to_do = sorted((clip for clip in clips if clip.name not in done), key=lambda clip: -_seconds(clip))
        ranks.check_same([clip.name for clip in to_do])  # or some would be captioned twice, and some by nobody
        loaded = None
        if to_do:
            device = find_device(ranks.device(settings.device))
            loaded = load_captioner(captioner, device)
            loaded.decoding_with(**settings.decoding)
            loaded = reranked(loaded, settings.rerank, settings.rerank_model, device)
            if kept is not None:
                if ranks.first:
                    kept.begin()
                ranks.gathered([None])  # no rank adds to the file before that
        return cls(clips, done, to_do, settings, loaded, ranks, kept)

    def run(self) -> list[Captioned]:
        """Caption what is to do, with a progress bar. The ranks share the clips, and each has all captions in the end.

        Returns:
            the clips sorted by name, with candidates, confidence and sounds; of one that failed `error` says why.

        Raises:
            ValueError: every clip failed.
        """
        from rich.progress import track

        to_do = self.ranks.share(self.to_do)
        hidden = not self.ranks.first or not sys.stderr.isatty() or not to_do
        ours: list[tuple[str, Caption | str]] = []
        for clip, found in track(self._caption(to_do), "captioning", len(to_do), disable=hidden):
            if self.kept is not None and isinstance(found, Caption):
                self.kept.add([(clip, found)])
            ours.append((clip.name, found))
        self.captioner = None  # its memory is for others now
        found_by_name = {**self.done, **dict(self.ranks.gathered(ours))}
        rows = [_row(clip, found_by_name[clip.name]) for clip in {clip.name: clip for clip in self.clips}.values()]
        if all(row.error is not None for row in rows):
            raise ValueError(
                f"none of the {len(rows)} clips could be captioned; the first, {rows[0].file_name}: {rows[0].error}"
            )
        return sorted(rows, key=lambda row: row.file_name)

    def _caption(self, clips: Sequence[Clip]) -> Iterator[tuple[Clip, "Caption | str"]]:
        """Each clip with its caption, or with what was wrong, in one line."""
        from a2i.captioner.batching import caption_many

        if self.captioner is None:
            return
        settings = self.settings
        found = caption_many(self.captioner, clips, settings.batch_size, settings.seed, **settings.decoding)
        for clip, result in zip(clips, found, strict=True):
            yield clip, with_kind(result) if isinstance(result, Exception) else _best(result.candidates)


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
