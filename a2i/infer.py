"""`python -m a2i.infer audio=…`: caption sounds and draw the captions.

Each sound produces `NAME.png` (caption, seed and model in its metadata) and one line in `results.jsonl`;
with `storyboard=true` a folder `NAME` of its scenes instead of the picture.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from a2i.audio.addresses import Address, Sound, is_address
from a2i.audio.apart import begin as begin_decoder
from a2i.audio.inputs import Skipped, each_sound, find_sounds, readable, refuse_nothing
from a2i.command_line import INTERRUPTED, entry_point
from a2i.compose import check_decoding, check_out, check_seed, checked, plain
from a2i.fitting import fitting
from a2i.grid import Shape
from a2i.image_settings import deciding, is_mini_painter, is_painter, styled
from a2i.licences import restriction
from a2i.machine import begin_program
from a2i.names import (
    deciding_captioner,
    is_folder,
    is_mini,
    name_of,
    with_revision,
)
from a2i.on_ray import RaySettings, caption_on_ray
from a2i.parts import ROWS, Parts
from a2i.paths import MINI_CAPTIONER, MINI_PAINTER
from a2i.rerank import check as check_rerank
from a2i.results import FILE, ResultsFile, RowSettings, settings_of
from a2i.storyboard.settings import SceneSettings
from a2i.storyboard.told import Told
from a2i.work import Work
from a2i.workers import how_many, rows_by_workers

if TYPE_CHECKING:
    from a2i.pipeline import AudioToImage


def write_results(
    rows: Iterator[dict[str, Any]], results: ResultsFile | None, count: int, told: Told | None = None
) -> int:
    """Keep each result as soon as it is there, so that an interruption loses none, then show it, with a progress bar.

    Args:
        rows: as they come.
        results: that keep them; None where they are kept already.
        count: of the rows.
        told: of the sound that is being heard, which gets a bar of its own; None for none.

    Returns:
        how many failed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # A bar and lines share a terminal; lines that go elsewhere go there plainly.
    together, seen = _is_terminal(sys.stdout), _is_terminal(sys.stderr)
    console = Console(stderr=not together)
    failed = 0
    with Progress(
        *columns,
        console=console,
        disable=(count < 2 and told is None) or not (together or seen),
        redirect_stdout=together,
        redirect_stderr=seen,
    ) as bar:
        task = bar.add_task("listening and drawing", total=count)
        if told is not None:
            one = bar.add_task("", total=None)
            told.tell = lambda what, done, of: bar.update(
                one, description=what, completed=int(done), total=max(int(of), 1)
            )
        for row in rows:
            if results is not None:
                results.add(row)
            failed += row["error"] is not None
            message = f"{row['audio']}: {_made(row) if row['error'] is None else 'error: ' + row['error']}"
            if together:
                style = None if row["error"] is None else "red"
                with suppress(OSError, ValueError):
                    console.print(shown(message), style=style, markup=False, highlight=False, soft_wrap=True)
            else:
                say(message)
            bar.advance(task)
    return failed


def _made(row: dict[str, Any]) -> str:
    """The caption, with how sure it is; of a storyboard how many scenes there are, and where it is."""
    caption = f"{row['caption']} ({row['confidence']:.0%} sure{_restrictions(row)})"
    if (scenes := row.get("scenes")) is not None:
        caption = f"{len(scenes):,} scene{'s' if len(scenes) != 1 else ''} in {row['page']}; the surest: {caption}"
    if "video" in row:
        caption += (
            f"; with captions: {row['video']}" if row["video"] else "; no video: its captions are in captions.vtt"
        )
    return caption + (f"; warning: {row['warning']}" if row["warning"] else "")


def _restrictions(row: dict[str, Any]) -> str:
    """What the licences of both models say of commercial use, on the line of what they made."""
    found = {"caption": restriction(row["captioner_licence"]), "picture": restriction(row["image_licence"])}
    return "".join(f"; {made} {said}" for made, said in found.items() if said)


def _is_terminal(stream: Any) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):  # closed
        return False


def shown(message: str) -> str:
    """A message in one line, with what controls a terminal escaped: a file's name may hold it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in readable(message))


def say(message: str, error: bool = False) -> None:
    """Print a line, to standard error if it is one; where there is no output any more the work still goes on."""
    with suppress(OSError, ValueError):
        print(shown(message), file=sys.stderr if error else sys.stdout, flush=True)


@dataclass(frozen=True)
class InferSettings:
    """The settings of `conf/infer.yaml`, checked.

    Attributes:
        audio: file, folder, pattern or list.
        captioner: settings as `conf/captioner` has them.
        image: settings as `conf/image` has them, with the style's prompts; empty or None for captions alone.
        style: settings as `conf/style` has them; empty or None for none.
        decoding: changes of the captioner's decoding settings, by name; None leaves one as it is.
        out: folder for the pictures and `results.jsonl`.
        again: make anew what is there.
        seed: of the pictures, and of sampling.
        device: None for the best one there is.
        batch_size: clips captioned at once.
        picture_batch: pictures drawn at once.
        storyboard: a folder of scenes for each sound.
        scenes: settings of these, as `SceneSettings` has them.
        grid: captions by seeds, such as 3x4, of a grid of pictures for each sound; None for none.
        rerank: what puts the candidates in order; see `a2i.rerank`. None for the captioner itself.
        rerank_model: the model that does; None for its default.
        captions: of videos, in a copy: `track` or `burn`; None for no copy.
        workers: processes that caption and draw; None for as many as pay.
        audio_column: of a manifest, with paths and addresses.
        engine: `local`, or `ray`, whose results are parquet.
        ray: settings of it, as `RaySettings` has them.
    """

    audio: str | list[str]
    captioner: dict[str, Any]
    image: dict[str, Any] | None
    style: dict[str, Any] | None
    decoding: dict[str, Any]
    out: str
    again: bool
    seed: int
    device: str | None
    batch_size: int
    picture_batch: int
    grid: str | None
    rerank: str | None
    rerank_model: str | None
    storyboard: bool = False
    scenes: dict[str, Any] = field(default_factory=dict)
    captions: str | None = None
    workers: int | None = None
    audio_column: str = "audio"
    engine: str = "local"
    ray: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_nothing(self.audio)
        for name, value in (("batch_size", self.batch_size), ("picture_batch", self.picture_batch)):
            if value < 1:
                raise ValueError(f"got {name}={value}; expected a whole number of at least 1")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"got workers={self.workers}; expected null or a whole number of at least 1")
        if self.storyboard and (self.workers or 1) > 1:
            raise ValueError(
                f"got workers={self.workers} beside storyboard=true, which takes one; expected workers=null"
            )
        if self.captions not in (None, "track", "burn"):
            raise ValueError(f"got captions={self.captions}; expected track, burn or null")
        if self.captions and not self.storyboard:
            raise ValueError(f"got captions={self.captions} without a storyboard; expected storyboard=true beside it")
        check_seed(self.seed)
        self._check_engine()
        check_rerank(self.rerank, self.rerank_model)
        if self.shape is not None and not self.image:
            raise ValueError(f"got grid={self.grid} with image=none; expected a picture model")
        if self.grid is not None and self.storyboard:
            raise ValueError(f"got grid={self.grid} beside storyboard=true; expected one of the two")

    def _check_engine(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ValueError(f"got engine={self.engine}; expected local or ray")
        elsewhere = is_address(self.out)
        if not elsewhere:
            check_out(self.out)
        if self.engine == "local":
            if elsewhere:
                raise ValueError("got an address as out= with engine=local; expected a folder here, or engine=ray")
            return
        if self.storyboard:
            raise ValueError("got storyboard=true with engine=ray, which makes none; expected engine=local")
        if self.workers is not None:
            raise ValueError(f"got workers={self.workers} with engine=ray; expected ray.actors={self.workers}")
        if self.device is not None and not self.device.startswith("cpu") and not self.ray.get("gpus"):
            raise ValueError(f"got device={self.device} with ray.gpus=0; expected ray.gpus=1, or a share of one")
        if self.seed >= 2**63:
            raise ValueError(f"got seed={self.seed} with engine=ray, whose results hold none from 2^63 on")

    @property
    def shape(self) -> Shape | None:
        """Of the grid."""
        return None if self.grid is None else Shape.of(self.grid)


def check(settings: dict[str, Any]) -> InferSettings:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `out`.
    """
    if settings["audio"] is None:
        raise ValueError(
            "no sound given; expected audio: a file, a folder (. for this one), a pattern or a list (--help tells more)"
        )
    captioner = with_revision(settings["captioner"], settings.get("captioner_revision"))
    image = styled(settings["image"], settings["style"])
    made = checked(InferSettings, settings | {"captioner": captioner, "image": image})
    check_decoding(made.decoding)
    SceneSettings(**fitting(SceneSettings, made.scenes, "scenes."))
    RaySettings(**fitting(RaySettings, made.ray, "ray."))
    return made


@entry_point("infer", bare="audio")
def main(config: DictConfig) -> None:
    """Entry point."""
    caption_and_draw(plain(config))


def caption_and_draw(settings: dict[str, Any]) -> None:
    """The whole program, whose exit status is 1 if a sound failed.

    Args:
        settings: composed from `conf/infer.yaml`, as plain containers.

    Raises:
        ValueError: the settings don't fit.
        OSError: the results can't be written.
        SystemExit: a sound failed, or the user interrupted.
    """
    # Thousands of modules are imported and none is garbage: to look for some takes a seventh of the time to the first
    # picture. `_load` ends that, where there is something to do.
    gc.disable()
    try:
        asked = check(settings)
        try:
            failed = run(asked)
        except KeyboardInterrupt:
            say("")
            kept = f"{Parts(asked.out).told}/{ROWS if asked.engine == 'ray' else FILE}"
            say(f"interrupted; what was done is in {kept}, and the same command again goes on from there", error=True)
            sys.exit(INTERRUPTED)
    finally:
        gc.enable()
    if failed:
        sys.exit(1)


def run(settings: InferSettings) -> int:
    """Caption and draw what is asked and not there yet.

    Args:
        settings: checked.

    Returns:
        how many sounds failed.

    Raises:
        ValueError: what is asked does not fit.
        OSError: the results can't be written.
    """
    if settings.engine == "ray":
        return _run_on_ray(settings)
    skipped = Skipped()
    sounds = find_sounds(settings.audio, skipped, settings.audio_column)
    for line in skipped.lines():
        say(line)
    if settings.storyboard and (elsewhere := [sound for sound in sounds if isinstance(sound, Address)]):
        raise ValueError(
            f"got {elsewhere[0]} beside storyboard=true; expected a file here: a storyboard keeps its sound"
        )
    out = Path(settings.out)
    wanted = _settings_of(settings)
    with ResultsFile(
        out, lambda: say(f"another process writes to {out}; waiting for it to end", error=True)
    ) as results:
        for note in results.notes:
            say(note)
        # No models are loaded before it is known that they are needed, nor while another process has the folder.
        left = sounds if settings.again else [sound for sound in sounds if not results.has(sound, wanted)]
        failed = 0
        if left:
            told = Told() if settings.storyboard else None
            work = _work_of(settings, wanted)
            rows: Iterator[dict[str, Any]]
            if told is not None:
                rows = _storyboards(settings, work, left, results, told)
            elif (workers := settings.workers or how_many(work, len(left))) > 1:
                gc.enable()
                rows = rows_by_workers(work, left, results, workers, say)
            else:
                begin_decoder()  # it comes up while the models do
                rows = work.rows(_load(work), left, results, show_progress=len(left) == 1)
            failed = write_results(rows, results, len(left), told)
    say(f"{_summary(len(sounds), len(left), failed)}; results in {results.path}")
    return failed


def _summary(asked: int, left: int, failed: int) -> str:
    summary = f"{asked - failed:,} of {asked:,} done"
    if there := asked - left:
        summary += f", {there:,} of them already before (to make all anew: again=true, or a2i --again)"
    return summary + (f", {failed:,} failed" if failed else "")


def _run_on_ray(settings: InferSettings) -> int:
    skipped, ray = Skipped(), RaySettings(**settings.ray)
    sounds = each_sound(settings.audio, skipped, settings.audio_column)
    if not ray.gpus:
        settings = replace(settings, device="cpu")
    work = _work_of(settings, _settings_of(settings))
    gc.enable()

    def show(rows: Iterator[dict[str, Any]], count: int) -> int:
        for line in skipped.lines():
            say(line)
        return write_results(rows, None, count)

    plan, failed = caption_on_ray(work, sounds, settings.out, ray, settings.again, show, say)
    place = f"{Parts(settings.out).told}/{ROWS}"
    say(f"{_summary(plan.sounds, plan.left, failed)}; results in {place} (pandas.read_parquet({place!r}) reads them)")
    return failed


def _settings_of(settings: InferSettings) -> RowSettings:
    """What decides a caption and a picture; not what changes no more than the rounding of sums."""
    caption = {
        "captioner": str(MINI_CAPTIONER) if is_mini(settings.captioner) else name_of(settings.captioner),
        "audio_language": None
        if is_folder(settings.captioner)
        else deciding_captioner(settings.captioner),  # the key's name is part of every hash so far
        "decoding": settings.decoding,
        "seed": settings.seed,
    }
    if settings.storyboard:
        caption["storyboard"] = asdict(SceneSettings(**settings.scenes)) | {"captions": settings.captions}
    if settings.rerank is not None:
        caption |= {"rerank": settings.rerank, "rerank_model": settings.rerank_model}
    if settings.grid is not None:  # it asks for more candidates, and so for more beams
        caption["grid"] = settings.grid
    if not settings.image:
        return settings_of(caption, None)
    # Without the target of a2i's own painter, which no hash of a picture holds so far.
    left_out = ("_target_", "licence") if is_painter(settings.image) else ("licence",)
    image = {name: value for name, value in deciding(settings.image).items() if name not in left_out}
    if is_mini_painter(settings.image):
        image["model"] = str(MINI_PAINTER)
    return settings_of(caption, image | {"caption": caption})


def _work_of(settings: InferSettings, wanted: RowSettings) -> Work:
    return Work(
        settings,
        wanted,
        settings.seed,
        settings.decoding,
        settings.batch_size,
        settings.picture_batch,
        settings.shape,
        settings.rerank,
        settings.rerank_model,
    )


def _storyboards(
    settings: InferSettings, work: Work, sounds: list[Sound], results: ResultsFile, told: Told
) -> Iterator[dict[str, Any]]:
    begin_decoder()
    a2i = _load(work)
    from a2i.storyboard.rows import storyboards

    making = {"settings": SceneSettings(**settings.scenes), "seed": settings.seed, **settings.decoding}
    making |= {"batch_size": settings.batch_size, "picture_batch": settings.picture_batch}
    files = [sound for sound in sounds if isinstance(sound, Path)]
    return storyboards(a2i, files, results, work.settings, told, making, settings.captions)


def _load(work: Work) -> "AudioToImage":
    a2i = work.load(say)
    gc.freeze()  # it stays, so that collections need not look at it
    gc.enable()
    return a2i


if __name__ == "__main__":
    begin_program()
    main()
