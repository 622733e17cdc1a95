"""`python -m a2i.export captioner=RUN to=FOLDER|hub:OWNER/NAME`: a trained captioner, ready for others, with a model card.

What is written is a captioner folder, so that it loads wherever a2i is installed, without what training needs; its README.md is
a model card in the Hub's format, and a few sounds lie beside it as examples.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from omegaconf import DictConfig

from a2i import hub
from a2i.command_line import entry_point
from a2i.compose import check_out, checked, plain
from a2i.machine import begin_program
from a2i.names import EMBEDDED, HUB_ID, MINI, PLACE, is_folder, name_of
from a2i.paths import MINI_CAPTIONER

if TYPE_CHECKING:
    from a2i.captioner import Captioner

TO_HUB = "hub:"
SOUNDS = "sounds"  # the folder of the examples
MADE = ("bell", "rain", "birdsong")  # examples that a2i makes, where none are named
LARGEST = 5_000_000  # bytes of an example


@dataclass(frozen=True)
class ExportSettings:
    """The settings of `conf/export.yaml`, checked; that file tells what each is."""

    captioner: dict[str, Any]
    to: str
    licence: str | None
    language: str
    trained_on: list[str] | None
    scores: str | None
    sounds: list[str] | None
    private: bool
    again: bool

    def __post_init__(self) -> None:
        if not is_folder(self.captioner):
            raise ValueError(
                f"got captioner={name_of(self.captioner)}, which is no folder; expected a run folder or a captioner folder"
            )
        if self.to.startswith(TO_HUB):
            if not HUB_ID.fullmatch(self.repository or ""):
                raise ValueError(f"got to={self.to}; expected a folder, or {TO_HUB}OWNER/NAME")
        else:
            check_out(self.to)

    @property
    def repository(self) -> str | None:
        """Of the Hub; None for a folder."""
        return self.to.removeprefix(TO_HUB) if self.to.startswith(TO_HUB) else None


@dataclass(frozen=True)
class Example:
    """A sound that shows what the captioner says.

    Attributes:
        file: where it lies.
        name: that it gets.
        caption: what the captioner says.
    """

    file: Path
    name: str
    caption: str


def check(settings: dict[str, Any]) -> ExportSettings:
    """Check what can be checked before a model is loaded.

    Raises:
        ValueError: with the name of the setting that does not fit, and what was expected.
        OSError: nothing can be written to `to`.
    """
    for key, what in (("captioner", "a run folder or a captioner folder"), ("to", f"a folder, or {TO_HUB}OWNER/NAME")):
        if settings.get(key) is None:
            raise ValueError(f"no {key} given; expected {key}={what} (--help tells more)")
    several = {key: [settings[key]] for key in ("sounds", "trained_on") if isinstance(settings[key], str)}
    return checked(ExportSettings, settings | several)


def export(settings: ExportSettings) -> str:
    """Write a captioner and its card to a folder, or to the Hub.

    Returns:
        the folder, or the page on the Hub.

    Raises:
        FileNotFoundError: there is no captioner, or a sound or the scores are not there.
        ValueError: the captioner can't be loaded, or something does not fit it.
        FileExistsError: there is something at the place already, and `again` is false.
        OSError: it can't be written, or the Hub does not take it.
    """
    from a2i.captioner import Captioner
    from a2i.captioner.folder import licence

    source = captioner_of(settings.captioner[PLACE["captioner"]])
    chosen = settings.licence or licence(source)
    if settings.repository is None:
        _check_free(Path(settings.to), source, settings.again)
    else:
        if chosen is None:
            raise ValueError(
                f"{source}: its card names no licence; expected licence= as the Hub names it, such as cc-by-4.0 (what the"
                " training data asks for) or mit"
            )
        _check_hub(settings.repository, settings.private, settings.again)
    captioner = Captioner.load(source)
    parent = Path(settings.to).absolute().parent if settings.repository is None else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as temporary:
        part = Path(temporary) / "captioner"
        examples = _examples(captioner, settings.sounds, Path(temporary) / "made")
        _copy(source, part, examples)
        text = card(settings, source, captioner, chosen, examples)
        (part / "README.md").write_text(text, encoding="utf-8")
        if settings.repository is not None:
            return _upload(part, settings.repository, settings.private, settings.again)
        from a2i.captioner.folder import exchange

        place = Path(settings.to)
        exchange(part, place.resolve())
    return str(place)


def captioner_of(source: str) -> Path:
    """The captioner folder of a run, or the folder itself; `mini` is the one that comes with a2i.

    Raises:
        FileNotFoundError: there is none.
    """
    from a2i.captioner.folder import SETTINGS_FILE, standing

    if source in (MINI, EMBEDDED):
        return MINI_CAPTIONER
    folder = Path(source).expanduser()
    for place in (standing(folder), standing(folder / "captioner")):
        if (place / SETTINGS_FILE).is_file():
            return place
    if (folder / "checkpoints").is_dir():
        raise FileNotFoundError(
            f"{folder}: a run without a captioner, which training writes at its end; go on with it: python -m a2i.train"
            f" resume={folder}"
        )
    raise FileNotFoundError(f"{folder}: no captioner there; expected a run folder or a captioner folder")


def card(
    settings: ExportSettings, source: Path, captioner: "Captioner", licence: str | None, examples: Sequence[Example]
) -> str:
    """The model card (Mitchell et al. 2019, arXiv:1810.03993): a head that the Hub reads, how to load the captioner, scores,
    examples, and what its own card says.

    Args:
        settings: checked.
        source: the captioner folder.
        captioner: loaded from there.
        licence: of the weights; None where it is not known.
        examples: with their captions.
    """
    from huggingface_hub import ModelCardData

    name = settings.repository or Path(settings.to).name
    data = _data(source) if settings.trained_on is None else settings.trained_on
    scores = _scores(settings.scores, source)
    head = ModelCardData(
        model_name=name.rpartition("/")[2] if scores else None,
        language=settings.language,
        license=licence,
        library_name="a2i",
        pipeline_tag="audio-text-to-text",
        tags=["audio-captioning"],
        datasets=data or None,
        metrics=sorted({metric.split("_")[0] for metric in _values(scores)}) or None,
        eval_results=_results(scores) if scores else None,
        widget=[_widget(each, settings.repository) for each in examples] or None,
    )
    place = settings.repository or "FOLDER"
    weights = sum(each.numel() for each in captioner.parameters())
    parts = [
        f"---\n{head.to_yaml()}\n---\n# {name}\n",
        f"Hears a sound and says what is heard, in one sentence. {weights:,} weights; hears at {captioner.sampling_rate:,} Hz."
        " Made with a2i.\n",
        f'## Use\n```python\nfrom a2i import AudioToImage\n\na2i = AudioToImage.load("{place}", image=None)\n'
        f'print(a2i("sound.wav").caption)\n```\nor `a2i sound.wav --captioner {place} --image none`.\n',
    ]
    if scores:
        parts.append(_score_table(scores))
    if examples:
        lines = [f"| [{_cell(each.name)}]({_address(each)}) | {_cell(each.caption)} |" for each in examples]
        made = "Made by a2i, not recorded.\n\n" if settings.sounds is None else ""
        parts.append("\n".join([f"## Examples\n{made}| sound | caption |", "|---|---|", *lines, ""]))
    own = _body(source)
    return "\n".join([*parts, *([own] if own else [])])


def _check_free(place: Path, source: Path, again: bool) -> None:
    from a2i.captioner.folder import SETTINGS_FILE

    if place.resolve() == source.resolve():
        raise ValueError(f"got to={place}, which is the captioner itself; expected another folder")
    if not place.exists() or not any(place.iterdir()):
        return
    if not (place / SETTINGS_FILE).is_file():
        raise FileExistsError(f"{place}: holds something other than a captioner; expected an empty or new folder")
    if not again:
        raise FileExistsError(f"{place}: holds a captioner already; expected another to=, or again=true to replace it")


def _check_hub(repository: str, private: bool, again: bool) -> None:
    """Find out what would keep the Hub from taking it, before a model is loaded.

    Raises:
        OSError: there is no token, the Hub can't be reached, or it has something under that name and `again` is false, or
            something that everybody sees and `private` is true.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    asked_for = hub.is_offline() and not hub.went_offline()
    reason = "HF_HUB_OFFLINE=1 keeps this from being sent" if asked_for else hub.unreachable()
    if reason is not None:
        raise OSError(f"to={TO_HUB}{repository}: {reason}; to=FOLDER writes it here")
    if get_token() is None:
        raise OSError(
            f"to={TO_HUB}{repository}: the Hub has to know who sends it: {hub.LOG_IN} with a token that may write"
        )
    try:
        found = hub.asked(repository)
    except hub.HubError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError) and not isinstance(error.__cause__, GatedRepoError):
            return  # new, or private and another's, which is said when it is made
        raise OSError(f"to={TO_HUB}{repository}: {error}") from error
    if private and not found.private:
        raise FileExistsError(
            f"{repository}: the Hub has it as a public repository, which it stays; expected another name, private=false, or"
            " that you make it private on its page first"
        )
    if found.files - {".gitattributes"} and not again:
        raise FileExistsError(
            f"{repository}: the Hub has files under that name; expected another name, or again=true to put these in their"
            " place (the old ones stay in its history)"
        )


def _upload(folder: Path, repository: str, private: bool, again: bool) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message="A captioner, by a2i.export",
            delete_patterns="*" if again else None,  # what was there before, in the same commit
        )
    except hub.failures() as error:
        raise OSError(f"to={TO_HUB}{repository}: the Hub did not take it ({hub.why(error)})") from error
    return str(made)


def _copy(source: Path, part: Path, examples: Sequence[Example]) -> None:
    """The captioner's own files, and nothing else that lies in its folder; and the examples."""
    from a2i.captioner.folder import LEXICON_FILE, SETTINGS_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE

    (part / SOUNDS).mkdir(parents=True) if examples else part.mkdir(parents=True)
    for name in (SETTINGS_FILE, WEIGHTS_FILE, LEXICON_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, part / name)
    shutil.copytree(source / TOKENIZER_FOLDER, part / TOKENIZER_FOLDER)
    for each in examples:
        shutil.copyfile(each.file, part / SOUNDS / each.name)


def _examples(captioner: "Captioner", sounds: list[str] | None, folder: Path) -> list[Example]:
    """The sounds that were named, or some that a2i makes, captioned.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is too large to lie beside weights, can't be read, or has another's name.
    """
    from a2i.captioner.batching import caption_many

    files = _made(folder) if sounds is None else [Path(sound).expanduser() for sound in sounds]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such sound; expected files in sounds=")
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{file}: {file.stat().st_size:,} bytes; expected examples of at most {LARGEST:,}")
    if len({file.name for file in files}) < len(files):
        raise ValueError(f"got sounds={','.join(map(str, files))}; expected no two of the same name")
    found = []
    for file, result in zip(files, caption_many(captioner, files), strict=True):
        if isinstance(result, Exception):
            raise ValueError(f"{file}: can't be captioned ({result})") from result
        found.append(Example(file, file.name, result.candidates[0].caption))
    return found


def _made(folder: Path) -> list[Path]:
    from a2i.data.foley.recipe import FoleySettings, wav_of

    folder.mkdir()
    files = []
    for name in MADE:
        settings = FoleySettings(seed=1, alone=1.0, mixed=0.0, sequence=0.0, sources=(name,), max_seconds=5.5)
        file = folder / f"{name}.wav"
        file.write_bytes(wav_of(settings, "test", 0))
        files.append(file)
    return files


def _data(source: Path) -> list[str]:
    """The data set that a run's configuration names, where the captioner lies in its run folder."""
    import yaml

    try:
        config = yaml.safe_load((source.parent / "config.yaml").read_text(encoding="utf-8"))
        target = config["data"]["_target_"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return []
    module, _, kind = target.rpartition(".")
    return [] if kind in ("Folder", "Combined", "Labelled") else [module.rpartition(".")[2]]


def _scores(wanted: str | None, source: Path) -> dict[str, Any]:
    """What an evaluation of this captioner wrote; empty where there is none.

    Raises:
        FileNotFoundError: `wanted` is not there.
        ValueError: it holds no scores, or those of other captions.
    """
    path = source.parent / "evaluation" if wanted is None else Path(wanted).expanduser()
    path = path / "scores.json" if path.is_dir() else path
    if not path.is_file():
        if wanted is None:
            return {}
        raise FileNotFoundError(
            f"{path}: no scores there; expected a folder that a2i.evaluate wrote, or its scores.json"
        )
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        about = found["about"]
        of = about.get("captioner")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no scores as a2i.evaluate writes them; expected its scores.json") from error
    evaluated = MINI_CAPTIONER if of == MINI else Path(str(of)).expanduser()
    if of is None or not evaluated.exists() or evaluated.resolve() != source.resolve():
        if wanted is None:
            return {}
        raise ValueError(
            f"{path}: the scores of {of or about.get('captions')}; expected those of {source}, which python -m a2i.evaluate"
            f" captioner={source} writes"
        )
    return found


def _values(scores: dict[str, Any]) -> dict[str, tuple[float, Any, dict[str, Any]]]:
    """Of each value of captions its number, interval and settings, by its name in tables."""
    found: dict[str, tuple[float, Any, dict[str, Any]]] = {}
    for metric, told in scores.items():
        if metric in ("about", "clips", "captions") or not isinstance(told, dict):
            continue
        interval = told.get("interval")
        settings = {
            key: _unplaced(each)
            for key, each in told.items()
            if key not in ("value", "interval", "precision", "recall", "f1")
        }
        named = {metric: told.get("value")} | {
            f"{metric}_{key}": told.get(key) for key in ("precision", "recall", "f1") if key in told
        }
        for name, value in named.items():
            if isinstance(value, int | float) and math.isfinite(value):
                own = interval.get(name.removeprefix(f"{metric}_")) if isinstance(interval, dict) else interval
                found[name] = float(value), own, settings
    return found


def _results(scores: dict[str, Any]) -> list[Any]:
    from huggingface_hub import EvalResult

    about = scores["about"]
    data = str(_unplaced(about.get("data", "unknown")))
    return [
        EvalResult(
            task_type="audio-captioning",
            dataset_type=data,
            dataset_name=data,
            dataset_split=about.get("split"),
            metric_type=name,
            metric_value=round(value, 4),
            metric_name=name,
            metric_args={**settings, **({"interval": [round(end, 4) for end in interval]} if interval else {})},
            verified=False,
        )
        for name, (value, interval, settings) in _values(scores).items()
    ]


def _unplaced(setting: Any) -> Any:
    """A setting as others may see it: of a path on this machine the last part alone."""
    if isinstance(setting, dict):
        return {key: _unplaced(each) for key, each in setting.items()}
    if isinstance(setting, list):
        return [_unplaced(each) for each in setting]
    if isinstance(setting, str):
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind(setting)
            if path.is_absolute() or (len(path.parts) > 1 and path.parts[0] in ("~", "..")):
                return path.name
        if "/" in setting and Path(setting).exists():
            return Path(setting).name
    return setting


def _score_table(scores: dict[str, Any]) -> str:
    about = scores["about"]
    lines = []
    for name, (value, interval, settings) in _values(scores).items():
        ends = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        by = ", ".join(
            f"{key} {settings[key]}" for key in ("library", "version", "model", "num_layers") if key in settings
        )
        lines.append(f"| {name} | {value:.4f} | {ends} | {_cell(by)} |")
    told = (
        f"## Scores\nOn `{_unplaced(about.get('data'))}`, split `{about.get('split')}`, by `python -m a2i.evaluate`,"
        f" {about.get('made', 'at an unknown time')}; intervals: {about.get('intervals', 'none')}.\n"
    )
    return "\n".join([told, "| metric | value | interval | computed by |", "|---|---|---|---|", *lines, ""])


def _widget(example: Example, repository: str | None) -> dict[str, Any]:
    path = _address(example)
    src = path if repository is None else f"{hub.endpoint()}/{repository}/resolve/main/{path}"
    return {"src": src, "example_title": Path(example.name).stem, "output": {"text": example.caption}}


def _address(example: Example) -> str:
    return quote(f"{SOUNDS}/{example.name}")


def _body(source: Path) -> str:
    """What the captioner's own card says, without its head; under a heading, so that nothing of it is lost."""
    from huggingface_hub import ModelCard

    try:
        text = ModelCard.load(source / "README.md", ignore_metadata_errors=True).text
    except (OSError, ValueError):
        return ""
    lines = text.strip().splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    body = "\n".join(lines).strip()
    return f"## How it was made\n{body}\n" if body else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


@entry_point("export")
def main(config: DictConfig) -> None:
    """Entry point."""
    settings = check(plain(config))
    print(f"captioner in {(place := export(settings))}")
    name = settings.repository or place
    print(f"try it: python -m a2i.infer audio=FILE captioner={name} image=none")


def program() -> None:
    """The console script."""
    begin_program()
    main()


if __name__ == "__main__":
    program()
