"""The model card of a captioner, in the Hub's own format: what `a2i.export` writes beside the weights."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from a2i import hub
from a2i.names import MINI
from a2i.paths import MINI_CAPTIONER

if TYPE_CHECKING:
    from a2i.captioner import Captioner

SOUNDS = "sounds"  # the folder of the examples


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


def card(
    name: str,
    source: Path,
    captioner: "Captioner",
    examples: Sequence[Example],
    *,
    licence: str | None = None,
    language: str = "en",
    repository: str | None = None,
    trained_on: Sequence[str] | None = None,
    scores: str | None = None,
    examples_are_made: bool = False,
) -> str:
    """The model card (Mitchell et al. 2019, arXiv:1810.03993): a head that the Hub reads, how to load the captioner, scores,
    examples, and what its own card says.

    Args:
        name: of the captioner.
        source: the captioner folder.
        captioner: loaded from there.
        examples: with their captions.
        licence: of the weights; None where it is not known.
        language: of the captions.
        repository: of the Hub that it goes to; None for a folder.
        trained_on: names of the data; None for what the run's configuration says.
        scores: folder of an evaluation, or its `scores.json`; None for that beside the captioner, if there is one.
        examples_are_made: by a2i, not recorded.

    Raises:
        FileNotFoundError: there are no such scores.
        ValueError: they are none, or of other captions.
    """
    from huggingface_hub import ModelCardData

    data = _data(source) if trained_on is None else list(trained_on)
    found = _scores(scores, source)
    head = ModelCardData(
        model_name=name.rpartition("/")[2] if found else None,
        language=language,
        license=licence,
        library_name="a2i",
        pipeline_tag="audio-text-to-text",
        tags=["audio-captioning"],
        datasets=data or None,
        metrics=sorted({metric.split("_")[0] for metric in _values(found)}) or None,
        eval_results=_results(found) if found else None,
        widget=[_widget(each, repository) for each in examples] or None,
    )
    place = repository or "FOLDER"
    weights = sum(each.numel() for each in captioner.parameters())
    parts = [
        f"---\n{head.to_yaml()}\n---\n# {name}\n",
        f"Hears a sound and says what is heard, in one sentence. {weights:,} weights; hears at {captioner.sampling_rate:,} Hz."
        " Made with a2i.\n",
        f'## Use\n```python\nfrom a2i import AudioToImage\n\na2i = AudioToImage.load("{place}", image=None)\n'
        f'print(a2i("sound.wav").caption)\n```\nor `a2i sound.wav --captioner {place} --image none`.\n',
    ]
    if found:
        parts.append(_score_table(found))
    if examples:
        lines = [f"| [{_cell(each.name)}]({_address(each)}) | {_cell(each.caption)} |" for each in examples]
        made = "Made by a2i, not recorded.\n\n" if examples_are_made else ""
        parts.append("\n".join([f"## Examples\n{made}| sound | caption |", "|---|---|", *lines, ""]))
    own = _body(source)
    return "\n".join([*parts, *([own] if own else [])])


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
