"""Names of metrics, the W&B workspace and the sweep file; all without the network."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import hydra
import pytest
import yaml
from conftest import SENTENCES, make_captioner, tone

import a2i
from a2i.compose import plain
from a2i.metrics.captions import ALL
from a2i.metrics.scoring import BERTSCORE, BLAME, CLIP_SCORES, COUNTS
from a2i.places import CONF
from a2i.report import ClipRow
from a2i.text import CaptionTokenizer
from a2i.tracking import clip_table

FOLDER = Path(a2i.__file__).parents[1] / "experiments" / "tracking"
SWEEP = yaml.safe_load((FOLDER / "sweep.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def validated(tokenizer: CaptionTokenizer) -> set[str]:
    """The names that a validation logs."""
    from a2i.training.module import CaptionModule

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        metrics = plain(hydra.compose("train", ["experiment=mini"]))["training"]["metrics"]
    learner = CaptionModule(make_captioner(tokenizer), None, metrics=metrics)  # type: ignore[arg-type]
    learner.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    logged: set[str] = set()
    learner.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign, assignment]
    learner._heard = [
        {"file_name": str(i), "caption_predicted": text, "references": [text], "loss": 1.0, "tokens": 2.0}
        for i, text in enumerate(SENTENCES)
    ]
    learner.on_validation_epoch_end()
    return logged | {f"val/{name}" for name in BERTSCORE}


def load_dashboard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pydantic, in wandb-workspaces
def test_the_workspace_shows_what_runs_log(validated: set[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs the extra dashboard")
    found = json.loads(load_dashboard().definition("somebody", "sounds"))
    assert (found["entity"], found["project"]) == ("somebody", "sounds")
    sections = found["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["Evaluation", "Validation", "Training", "Clips", "Scores"]
    assert all(section["panels"] for section in sections)
    shown = set(re.findall(r'"((?:train|val|test|compare)/\w+)"', json.dumps(found)))
    evaluated = {f"test/{name}" for name in (*BERTSCORE, *ALL, *COUNTS, *CLIP_SCORES, *BLAME)}
    tables = {"test/clips", "test/scores", "test/intervals", "val/captions", "compare/differences"}
    trained = {"train/loss", "train/label_loss", *(f"train/rate_{name}" for name in ("encoder", "decoder", "new"))}
    assert len(shown) > 25
    assert shown <= evaluated | tables | trained | validated


def test_a_validation_logs_scores_in_one_group(validated: set[str]) -> None:
    assert {
        "val/loss",
        "val/distinct_captions",
        "val/bleu_4",
        "val/rouge_l",
        "val/cider_d",
        "val/repetition",
    } <= validated
    assert all(name.startswith("val/") for name in validated)


def ends(parameter: dict) -> list:
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def command(values: dict[str, object]) -> list[str]:
    """What W&B's agent would run with these parameters, without interpreter and module."""
    chosen = [f"{name}={value}" for name, value in values.items()]
    words = [chosen if word == "${args_no_hyphens}" else [word] for word in SWEEP["command"]]
    return [word for several in words for word in several][4:]


def test_every_parameter_of_the_sweep_is_an_override(validated: set[str]) -> None:
    assert SWEEP["command"][:4] == ["${env}", "${interpreter}", "-m", "a2i.train"]
    assert SWEEP["command"][-1] == "${args_no_hyphens}"
    assert SWEEP["metric"]["name"] in validated
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for which in (0, -1):
            values = {name: ends(parameter)[which] for name, parameter in SWEEP["parameters"].items()}
            config = hydra.compose("train", command(values))  # refuses a name that is not there
            for name, value in values.items():
                found = plain(config)
                for part in name.split("."):
                    found = found[part]
                assert found == value, name


def test_a_table_of_clips(tmp_path: Path) -> None:
    import soundfile
    from PIL import Image

    soundfile.write(tmp_path / "a.wav", tone(440.0, 0.2), 16_000)
    rows = [
        ClipRow("a.wav", "A tone.", ["A tone.", "A hum."], ["One.", "Two."], {"f": 0.5}, tmp_path / "a.wav"),
        ClipRow("b.wav", "", [], ["One."], {"f": None}, image=Image.new("RGB", (4, 4)), confidence=0.25),
    ]
    table = clip_table(rows, {0, 1})
    head = ["file", "sound", "spectrogram", "references", "caption", "candidates", "picture", "f", "confidence"]
    assert table.columns == head
    assert [type(cell).__name__ for cell in table.data[0][1:3]] == ["Audio", "Image"]
    assert table.data[0][3:6] == ["One.\nTwo.", "A tone.", "A hum."]
    assert table.data[0][-2:] == [0.5, None]
    assert table.data[1][1:3] == [None, None]
    assert table.data[1][-2:] == [None, 0.25]
    bare = clip_table(rows, {0}, with_sound=False)
    assert bare.data[0][1] is None
    assert bare.data[0][2] is not None
    assert bare.data[1][6] is None
