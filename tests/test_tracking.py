"""Names of metrics, the W&B workspace and the sweep file; all without the network."""

import http.server
import importlib.util
import json
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hydra
import pytest
import wandb
import yaml
from conftest import SENTENCES, make_captioner, tone

import a2i
from a2i import tracking
from a2i.captioner.text import CaptionTokenizer
from a2i.compose import plain
from a2i.metrics.registry import values
from a2i.paths import CONF
from a2i.report import ClipRow
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
    logged: set[str] = set()
    learner.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign, assignment]
    count, names = len(SENTENCES), list(map(str, range(len(SENTENCES))))
    learner.validation.update(
        SENTENCES, [[text] for text in SENTENCES], names, loss=[1.0] * count, tokens=[2.0] * count
    )
    learner.on_validation_epoch_end()
    return logged | {f"val/{name}" for name in values() if name.startswith("bertscore_")}


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
    evaluated = {f"test/{name}" for name in values()}
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


class Server:
    """Stands where W&B's server should, and answers every request with a status, or not at all."""

    def __init__(self, status: int | None) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                if status is None:
                    stop.wait(60)
                else:
                    self.send_response(status)
                    self.end_headers()

            do_HEAD = do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        stop = self.stop = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A key of W&B, and nobody at its server's address yet."""
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    yield monkeypatch
    wandb.finish()
    wandb.teardown()


@pytest.mark.parametrize(
    ("status", "said"),
    [("nobody", "can't be reached at"), (None, "no answer within"), (401, "takes no run"), (500, "takes no run")],
)
def test_a_key_without_a_server_goes_on_offline(
    account: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int | str | None,
    said: str,
) -> None:
    server = None
    if not isinstance(status, str):
        server = Server(status)
        account.setenv("WANDB_BASE_URL", server.url)
    account.setattr("a2i.tracking.REACHED", 1.0)
    began = time.monotonic()
    settings = {**tracking.WAITS, "init_timeout": 2.0}
    run = tracking.begin_run(tmp_path, lambda: wandb.init(dir=str(tmp_path), project="a2i", settings=settings))
    if server is not None:
        server.close()
    assert run.offline
    assert time.monotonic() - began < 60  # W&B by itself waits for 107
    run.log({"a": 1})
    tracking.close_wandb(failed=False)
    shown = capsys.readouterr()
    assert said in shown.err
    assert "kept offline" in shown.err
    (piece,) = (tmp_path / "wandb").glob("offline-run-*")
    assert f"wandb sync {piece}" in shown.out
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb")


def test_the_mode_that_was_given_stays(account: pytest.MonkeyPatch, tmp_path: Path) -> None:
    account.setenv("WANDB_MODE", "online")
    with pytest.raises(OSError, match=r"W&B: .* with WANDB_MODE=online; unset it, or set logger=csv"):
        tracking.begin_run(tmp_path, lambda: wandb.init(dir=str(tmp_path), settings={"init_timeout": 1.0}))
    assert os.environ["WANDB_MODE"] == "online"


def test_every_piece_of_a_run_is_named(
    account: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that was resumed twice offline, and another run beside it."""
    from lightning.pytorch.loggers import WandbLogger

    from a2i.training.loggers import begin_runs, logger_settings

    account.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "a run"
    folder.mkdir()
    for name in ("offline-run-20260101_000000-other", "run-20260101_000000-other"):
        (folder / "wandb" / name).mkdir(parents=True)
    conf = {"wandb": {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "a2i"}}
    for time_ in range(3):
        (settings,) = logger_settings(conf, folder)
        settings.pop("_target_")
        begin_runs([WandbLogger(**settings)], folder)
        if time_ < 2:
            wandb.finish()
            time.sleep(1.1)  # folders are named by the second
    capsys.readouterr()
    tracking.close_wandb(failed=False)
    pieces = sorted((folder / "wandb").glob(f"offline-run-*-{(folder / 'wandb_run.txt').read_text().strip()}"))
    assert len(pieces) == 3
    assert shlex.join(["wandb", "sync", *map(str, pieces)]) in capsys.readouterr().out


def test_no_secret_of_the_command_is_kept(account: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """W&B keeps the arguments of the program; a sweep's may have a database's password."""
    account.setenv("WANDB_MODE", "offline")
    given = ["train.py", "name=told", "sweep.storage=postgresql://me:HIDDEN-WORD@host/db"]
    account.setattr(sys, "argv", given)
    tracking.begin_run(tmp_path, lambda: wandb.init(dir=str(tmp_path), project="a2i"))
    tracking.close_wandb(failed=False)
    assert sys.argv is given
    kept = b"".join(path.read_bytes() for path in (tmp_path / "wandb").rglob("*") if path.is_file())
    assert b"name=told" in kept
    assert b"HIDDEN" not in kept
