"""A captioner that others can load: what is written, what its card says, and what the Hub is sent."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from conftest import tone
from hub_stand_in import StandIn, standing_in
from huggingface_hub import ModelCard
from programs import run

from a2i import AudioToImage, hub
from a2i.captioner import Captioner
from a2i.models import load_captioner

SCORES = {
    "bertscore": {"precision": 0.5, "recall": 0.25, "f1": 1 / 3, "interval": {"f1": [0.3, 0.4]}, "model": "tiny|model"},
    "rouge_l": {"value": 0.4, "interval": [0.35, 0.45], "library": "aac-metrics", "version": "0.5.4"},
    "clip_score": {"value": 0.3, "model": "/me/models/clip", "parts": ["/me/x"]},
    "spice": {"missing": "needs Java"},
    "captions": {"distinct": 1.0},
    "clips": 3,
}


@pytest.fixture
def run_folder(captioner_folder: Path, tmp_path: Path) -> Path:
    """A run folder as training and evaluating leave it."""
    folder = tmp_path / "runs" / "first"
    shutil.copytree(captioner_folder, folder / "captioner")
    (folder / "captioner" / "README.md").write_text("# first\n\n- epochs: 3\n")
    (folder / "captioner" / "notes.txt").write_text("mine")
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"_target_": "a2i.data.clotho.Clotho", "root": "/me"}}))
    about = {"captioner": str(folder / "captioner"), "data": "clotho", "split": "test", "made": "2026-01-31T12:00:00"}
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "scores.json").write_text(json.dumps(SCORES | {"about": about}))
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with standing_in(tmp_path, monkeypatch) as server:
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield server


def exported(*arguments: object) -> tuple[int, str]:
    done = run("export", *map(str, arguments))
    return done.returncode, done.stdout + done.stderr


def test_a_run_becomes_a_folder_with_a_card(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "my captioner"
    status, said = exported(f"captioner={run_folder}", f"to={out}", "licence=cc-by-4.0")
    assert status == 0, said
    assert f"captioner in {out}" in said
    loaded, before = Captioner.load(out), Captioner.load(run_folder / "captioner")
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight)
    assert loaded.licence == "cc-by-4.0"
    names = {path.relative_to(out).parts[0] for path in out.rglob("*") if path.is_file()}
    assert names == {"captioner.json", "model.safetensors", "tokenizer", "README.md", "sounds"}
    card = ModelCard.load(out / "README.md")
    assert (card.data.license, card.data.language, card.data.datasets) == ("cc-by-4.0", "en", ["clotho"])
    assert card.data.library_name == "a2i"
    values = {each.metric_type: each for each in card.data.eval_results}
    assert set(values) == {"bertscore_precision", "bertscore_recall", "bertscore_f1", "rouge_l", "clip_score"}
    assert values["clip_score"].metric_args == {"model": "clip", "parts": ["x"]}
    assert values["bertscore_f1"].metric_value == 0.3333
    assert values["bertscore_f1"].metric_args == {"model": "tiny|model", "interval": [0.3, 0.4]}
    assert (values["rouge_l"].dataset_name, values["rouge_l"].dataset_split) == ("clotho", "test")
    assert values["rouge_l"].metric_args["version"] == "0.5.4"
    assert "| bertscore_f1 | 0.3333 | 0.3000 to 0.4000 | model tiny\\|model |" in card.text
    assert "## How it was made\n- epochs: 3" in card.text
    assert "/me" not in card.content
    for sound in card.data.widget:
        heard = AudioToImage.load(out, None, "cpu")(out / sound["src"])
        assert sound["output"]["text"] == heard.caption
        assert heard.caption in card.text
    code = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[0].replace("FOLDER", str(out))
    example = {"print": lambda caption: captions.append(caption)}
    captions: list[str] = []
    exec(code.replace("sound.wav", str(out / "sounds" / "bell.wav")), example)
    assert captions == [card.data.widget[0]["output"]["text"]]


def test_what_is_there_is_not_replaced_unasked(run_folder: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    given = (f"captioner={run_folder / 'captioner'}", "sounds=[]", "scores=null")
    assert exported(*given, f"to={out}")[0] == 0
    before = (out / "README.md").read_text()
    status, said = exported(*given, f"to={out}", "licence=mit")
    assert (status, (out / "README.md").read_text()) == (2, before)
    assert "holds a captioner already; expected another to=, or again=true" in said
    assert exported(*given, f"to={out}", "licence=mit", "again=true")[0] == 0
    assert Captioner.load(out).licence == "mit"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    status, said = exported(*given, f"to={other}", "again=true")
    assert status == 2
    assert "holds something other than a captioner" in said
    assert [path.name for path in other.iterdir()] == ["letter.txt"]
    assert exported(*given, f"to={run_folder / 'captioner'}", "again=true")[0] == 2
    assert not list(tmp_path.glob(".export-*"))


def test_named_sounds_are_the_examples(run_folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mine, too.wav", tone(300, 0.3), 16_000)
    out = tmp_path / "out"
    status, said = exported(f"captioner={run_folder}", f"to={out}", f"sounds={tmp_path / 'mine, too.wav'}")
    assert status == 0, said
    assert [path.name for path in (out / "sounds").iterdir()] == ["mine, too.wav"]
    card = (out / "README.md").read_text()
    assert "Made by a2i" not in card
    assert "| [mine, too.wav](sounds/mine%2C%20too.wav) |" in card


@pytest.mark.parametrize("other", ["someone/else", "{captioner_folder}", "gone/captioner"])
def test_scores_of_another_captioner_are_not_shown(
    run_folder: Path, captioner_folder: Path, tmp_path: Path, other: str
) -> None:
    about = {"captioner": other.format(captioner_folder=captioner_folder), "data": "clotho"}
    (run_folder / "evaluation" / "scores.json").write_text(json.dumps(SCORES | {"about": about}))
    given = (f"captioner={run_folder}", f"to={tmp_path / 'out'}", "sounds=[]")
    status, said = exported(*given, f"scores={run_folder / 'evaluation'}")
    assert status == 2
    assert f"the scores of {about['captioner']}; expected those of" in said
    assert exported(*given)[0] == 0
    assert "## Scores" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["captioner=null"], "no captioner given; expected captioner=a run folder or a captioner folder"),
        (["to=null"], "no to given; expected to=a folder, or hub:OWNER/NAME"),
        (["to=hub:name"], "got to=hub:name; expected a folder, or hub:OWNER/NAME"),
        (["captioner={run}/evaluation"], "no captioner there; expected a run folder or a captioner folder"),
        (["scores=nowhere"], "nowhere: no scores there; expected a folder that a2i.evaluate wrote"),
        (["scores={run}/captioner/captioner.json"], "no scores as a2i.evaluate writes them"),
        (["scores={other}"], "expected those of"),
        (["sounds=[gone.wav]"], "gone.wav: no such sound"),
        (["sounds=[{run}/config.yaml]"], "config.yaml: can't be captioned"),
        (["to=hub:someone/new"], "HF_HUB_OFFLINE=1 keeps this from being sent; to=FOLDER writes it here"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    run_folder: Path, captioner_folder: Path, tmp_path: Path, changes: list[str], said: str
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(SCORES | {"about": {"captioner": str(captioner_folder), "data": "clotho"}}))
    given = {"captioner": str(run_folder), "to": str(tmp_path / "out"), "licence": "mit"}
    given |= dict(change.format(run=run_folder, other=other).split("=", 1) for change in changes)
    status, printed = exported(*(f"{key}={value}" for key, value in given.items()))
    assert status == 2
    assert said in printed
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".export-*"))


def test_a_run_that_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    status, said = exported(f"captioner={tmp_path / 'run'}", f"to={tmp_path / 'out'}")
    assert status == 2
    assert (
        "a run without a captioner, which training writes at its end; go on with it: python -m a2i.train resume="
        in said
    )


def test_the_hub_gets_it_and_gives_it_back(run_folder: Path, tmp_path: Path, server: StandIn) -> None:
    given = (f"captioner={run_folder}", "to=hub:someone/new", "licence=cc-by-4.0")
    status, said = exported(*given)
    assert status == 0, said
    assert f"captioner in {server.address}/someone/new" in said
    assert "private" not in json.dumps(server.created)
    sent = server.repositories["someone/new"]
    assert {"captioner.json", "model.safetensors", "README.md", "sounds/bell.wav"} <= set(sent)
    assert sent["model.safetensors"] == (run_folder / "captioner" / "model.safetensors").read_bytes()
    head: dict[str, Any] = yaml.safe_load(sent["README.md"].decode().split("---\n")[1])
    assert head["widget"][0]["src"] == f"{server.address}/someone/new/resolve/main/sounds/bell.wav"
    assert b'AudioToImage.load("someone/new", image=None)' in sent["README.md"]
    assert load_captioner("someone/new", torch.device("cpu")).licence == "cc-by-4.0"
    asked = len(server.seen)
    status, said = exported(*given)
    assert status == 2
    assert "the Hub has files under that name; expected another name, or again=true" in said
    assert not [method for method, _ in server.seen[asked:] if method == "POST"]
    sent |= {"lexicon.json": b"{}", "sounds/old.wav": b"", ".gitattributes": b""}
    assert exported(*given, "again=true")[0] == 0
    assert not {"lexicon.json", "sounds/old.wav"} & set(sent)
    assert {"captioner.json", "sounds/bell.wav", ".gitattributes"} <= set(sent)


def test_what_is_to_be_private_is_not_sent_where_all_see_it(run_folder: Path, server: StandIn) -> None:
    given = (f"captioner={run_folder}", "licence=mit", "sounds=[]", "private=true")
    server.repositories["someone/seen"] = {}
    status, said = exported(*given, "to=hub:someone/seen", "again=true")
    assert status == 2
    assert "someone/seen: the Hub has it as a public repository, which it stays; expected another name" in said
    assert not [method for method, _ in server.seen if method == "POST"]
    assert exported(*given, "to=hub:someone/mine")[0] == 0
    assert server.private == {"someone/mine"}
    assert exported(*given, "to=hub:someone/mine", "again=true")[0] == 0


def test_the_hub_itself_is_asked_what_it_has(
    run_folder: Path, server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is here under that name, and whatever was downloaded from there."""
    server.add("someone/old", run_folder / "captioner")
    load_captioner("someone/old", torch.device("cpu"))
    (tmp_path / "someone" / "old").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    given = (f"captioner={run_folder}", "to=hub:someone/old", "licence=mit", "sounds=[]")
    assert "the Hub has files under that name" in exported(*given)[1]
    server.refusals["/api/models/"] = (418, "")
    status, said = exported(*given)
    assert status == 2
    assert "to=hub:someone/old: the Hub answers with HTTP status 418: The stand-in refuses." in said
    assert not [method for method, _ in server.seen if method == "POST"]


def test_who_is_to_blame_where_nothing_can_be_sent(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_reached", ["the Hub can't be reached at nowhere"])
    status, said = exported(f"captioner={run_folder}", "to=hub:someone/new", "licence=mit")
    assert status == 2
    assert "the Hub can't be reached at nowhere; to=FOLDER writes it here" in said


@pytest.mark.parametrize(
    ("part", "status", "code", "said"),
    [
        ("/api/repos/create", 403, "", "the Hub did not take it (the Hub does not allow this with the token"),
        ("/api/repos/create", 401, "", "the Hub did not take it (the Hub does not know who asks: log in"),
        ("/commit/", 429, "", "the Hub did not take it (the Hub takes no more requests from here for now"),
        ("/", 503, "", "the Hub is out of order"),
    ],
)
def test_a_hub_that_does_not_take_it(
    run_folder: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch, part: str, status: int, code: str, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    server.refusals[part] = (status, code)
    done, printed = exported(f"captioner={run_folder}", "to=hub:someone/new", "licence=mit", "sounds=[]")
    assert done == 2
    assert said in printed
    assert "Traceback" not in printed


def test_the_hub_wants_a_licence_and_a_token(
    run_folder: Path, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (f"captioner={run_folder}", "to=hub:someone/new")
    assert "its card names no licence; expected licence=" in exported(*given)[1]
    monkeypatch.delenv("HF_TOKEN")
    assert "the Hub has to know who sends it: log in (hf auth login" in exported(*given, "licence=mit")[1]
    assert server.repositories == {}
