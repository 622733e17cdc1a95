"""What is said of a model that the Hub does not give, and what becomes of those that it gave before."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from conftest import tone
from hub_stand_in import COMMIT, StandIn, standing_in, use
from programs import run

from a2i import AudioToImage, hub
from a2i.captioner.text import CaptionTokenizer
from a2i.diffusion import Painter
from a2i.metrics.bertscore import BERTScore
from a2i.metrics.pictures import CLIP
from a2i.models import load_captioner

CPU = torch.device("cpu")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with standing_in(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that nobody answers for: a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        use(f"http://127.0.0.1:{free.getsockname()[1]}", tmp_path, monkeypatch)


def test_a_captioner_and_a_painter_of_the_hub(server: StandIn, captioner_folder: Path, painter_folder: Path) -> None:
    server.add("someone/captioner", captioner_folder)
    server.add("someone/painter", painter_folder)
    a2i = AudioToImage.from_pretrained("someone/captioner", {"model": "someone/painter", "steps": 1}, "cpu")
    result = a2i(tone(500, 0.3), sampling_rate=16_000)
    assert (result.captioner, result.image_model) == ("someone/captioner", "someone/painter")
    assert result.image is not None


def test_a_local_folder_asks_nobody(server: StandIn, captioner_folder: Path, painter_folder: Path) -> None:
    AudioToImage.from_pretrained(captioner_folder, {"model": str(painter_folder), "steps": 1}, "cpu")
    assert hub.look_up("runs/no/captioner") is None
    assert server.seen == []


def test_no_network_is_found_out_once_and_at_once(
    nowhere: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    for name in ("someone/first", "someone/second"):
        with pytest.raises(hub.HubError, match=r"not in the Hub's cache on this machine, and the Hub can't be reached"):
            hub.look_up(name)
        with pytest.raises(ValueError, match=f"{name}: could not load a picture model .*image=mini needs neither"):
            Painter(name, device="cpu")
        with pytest.raises(ValueError, match=f"{name}: no CLIP model to be had there .*the Hub can't be reached"):
            CLIP(name, device="cpu")
        with pytest.raises(FileNotFoundError, match=f"the model '{name}', which cannot be read .*can't be reached"):
            BERTScore(name, device="cpu")
        with pytest.raises(ValueError, match=f"{name}: no tokenizer found .*the Hub can't be reached"):
            CaptionTokenizer.load(name)
    assert time.monotonic() - began < 10  # where every request is tried five times it takes far longer
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("the Hub can't be reached at http://127.0.0.1:")
    assert huggingface_hub.is_offline_mode()


def test_a_hub_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        use(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)
        monkeypatch.setattr(hub, "REACHED", 0.2)
        with pytest.raises(hub.HubError, match="the Hub can't be reached"):
            hub.look_up("someone/model")
    assert capsys.readouterr().err.startswith("the Hub can't be reached")


def test_no_password_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    use(f"http://me:hidden@127.0.0.1:{port}", tmp_path, monkeypatch)
    assert hub.endpoint() == f"http://…@127.0.0.1:{port}"
    with pytest.raises(hub.HubError) as refused:
        hub.look_up("someone/model")
    assert "hidden" not in str(refused.value) + capsys.readouterr().err


def test_a_hub_that_is_out_of_order_counts_as_none(server: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    server.refusals["/"] = (503, "")
    with pytest.raises(hub.HubError, match="the Hub can't be reached"):
        hub.look_up("someone/model")
    assert "the Hub is out of order" in capsys.readouterr().err
    assert len(server.seen) == 1


def test_what_the_hub_gave_before_loads_without_it(
    server: StandIn, captioner_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.add("someone/captioner", captioner_folder)
    assert load_captioner("someone/captioner", CPU).name
    for refusals in ({"/": (503, "")}, {"/api/": (401, "RepoNotFound"), "/someone/": (401, "RepoNotFound")}):
        use(server.address, tmp_path, monkeypatch)
        server.refusals = refusals
        assert load_captioner("someone/captioner", CPU).name
    use(server.address, tmp_path, monkeypatch)
    server.seen.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load_captioner("someone/captioner", CPU).name
    with pytest.raises(FileNotFoundError, match=r"not in the Hub's cache on this machine, and HF_HUB_OFFLINE=1 keeps"):
        load_captioner("someone/other", CPU)
    assert server.seen == []


def test_a_lora_that_the_hub_gave_before(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a file of its own, and none of those that other models have."""
    from huggingface_hub import hf_hub_download

    file = "pytorch_lora_weights.safetensors"
    server.repositories["someone/lora"] = {file: b"weights"}
    hf_hub_download("someone/lora", file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.look_up("someone/lora", None, file) is None
    with pytest.raises(hub.HubError, match="not in the Hub's cache"):
        hub.look_up("someone/lora", None, "other.safetensors")


@pytest.mark.parametrize(
    ("part", "status", "code", "said"),
    [
        ("/api/", 401, "RepoNotFound", "none of that name, or a private one: check the name, or log in (hf auth login"),
        ("/api/", 403, "GatedRepo", "its owner has to give access: ask for it at http://"),
        ("/api/", 401, "", "the Hub does not know who asks: log in"),
        ("/api/", 403, "", "the Hub does not allow this with the token"),
        ("/api/", 404, "RevisionNotFound", "it has no revision of that name; expected a branch, tag or commit"),
        ("/api/", 429, "", "the Hub takes no more requests from here for now (HTTP status 429); try again in 1 s"),
        ("/api/", 418, "", "the Hub answers with HTTP status 418: The stand-in refuses."),
        ("/resolve/", 403, "GatedRepo", "its owner has to give access: ask for it at"),
        ("/resolve/", 404, "EntryNotFound", "it lacks"),
    ],
)
def test_a_refusal_is_said_in_a_line(
    server: StandIn, captioner_folder: Path, painter_folder: Path, part: str, status: int, code: str, said: str
) -> None:
    server.add("someone/captioner", captioner_folder)
    server.add("someone/painter", painter_folder)
    server.refusals[part] = (status, code)
    with pytest.raises(FileNotFoundError) as refused:
        load_captioner("someone/captioner", CPU)
    with pytest.raises(ValueError, match="someone/painter: could not load a picture model") as undrawn:
        Painter("someone/painter", device="cpu")
    for error in (refused.value, undrawn.value):
        assert said in str(error)
        assert "\n" not in str(error)


def test_something_else_under_that_name(server: StandIn, captioner_folder: Path, clip_folder: Path) -> None:
    server.add("someone/captioner", captioner_folder)
    server.add("someone/clip", clip_folder)
    server.repositories["someone/empty"] = {}
    with pytest.raises(
        FileNotFoundError, match=r"the Hub has something else under that name: .* no captioner\.json in"
    ):
        load_captioner("someone/clip", CPU)
    with pytest.raises(ValueError, match=r"there is no model_index\.json in README\.md, captioner"):
        Painter("someone/captioner", device="cpu")
    with pytest.raises(ValueError, match=r"there is no config\.json in it, which is empty"):
        CLIP("someone/empty", device="cpu")
    assert not [path for _, path in server.seen if "/resolve/" in path], "something was downloaded"


def test_of_a_gated_model_nothing_is_downloaded(server: StandIn, captioner_folder: Path) -> None:
    server.add("someone/captioner", captioner_folder)
    server.gated.add("someone/captioner")
    with pytest.raises(FileNotFoundError, match="its owner has to give access: ask for it at"):
        load_captioner("someone/captioner", CPU)
    assert not [path for _, path in server.seen if "/resolve/" in path]


def test_a_download_that_breaks_off_is_not_taken_for_whole(
    server: StandIn, captioner_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.add("someone/captioner", captioner_folder)
    server.cut.add("model.safetensors")
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    with pytest.raises(FileNotFoundError, match="someone/captioner: "):
        load_captioner("someone/captioner", CPU)
    use(server.address, tmp_path, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="someone/captioner: "):
        load_captioner("someone/captioner", CPU)
    use(server.address, tmp_path, monkeypatch)
    server.cut.clear()
    assert load_captioner("someone/captioner", CPU).name


def test_the_licence_is_known_before_anything_is_downloaded(server: StandIn) -> None:
    server.repositories["someone/model"] = {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# A model\n"}
    server.repositories["someone/other"] = {
        "README.md": b"---\nlicense: other\nlicense_name: stabilityai-ai-community\n---\n"
    }
    found, other = hub.look_up("someone/model", COMMIT), hub.look_up("someone/other")
    assert found is not None
    assert other is not None
    assert (found.licence, other.licence) == ("cc-by-nc-4.0", "stabilityai-ai-community")
    asked = len(server.seen)
    assert hub.look_up("someone/model", COMMIT) is found
    assert len(server.seen) == asked, "asked twice"


def test_an_evaluation_without_a_network_goes_on(nowhere: None, captioner_folder: Path, sounds: Path) -> None:
    """With each metric whose model can't be had missing, and one line about the network."""
    table = "file_name,split,caption_1\n" + "".join(f"{name}.wav,test,A dog barks.\n" for name in ("high", "low"))
    (sounds / "captions.csv").write_text(table)
    began = time.monotonic()
    done = run(
        "evaluate", f"captioner={captioner_folder}", "data=folder", f"data.root={sounds}", "image=mini", "image.steps=1",
        "metrics=[clip_score]", "bootstrap_samples=0", f"out={sounds.parent / 'out'}", "device=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60  # every request tried five times took 170 s
    assert done.stderr.count("the Hub can't be reached at") == 1
    assert "Retrying" not in done.stderr
    assert "clip_score" in done.stdout


def test_licences_are_shown_before_a_download_and_with_the_result(
    server: StandIn, captioner_folder: Path, sounds: Path, tmp_path: Path
) -> None:
    card = "---\nlicense: cc-by-nc-4.0\n---\n# A captioner\n"
    server.add("someone/captioner", captioner_folder)
    server.repositories["someone/captioner"]["README.md"] = card.encode()
    given = (f"audio={sounds / 'low.wav'}", "captioner=someone/captioner", "image=none", "device=cpu")
    server.refusals["/resolve/"] = (403, "GatedRepo")
    refused = run("infer", *given, f"out={tmp_path / 'out'}")
    assert refused.returncode == 2
    assert "captions by someone/captioner, licence: cc-by-nc-4.0" in refused.stdout
    (sounds / "captions.csv").write_text("file_name,split,caption_1\nlow.wav,test,A dog barks.\n")
    data = ("data=folder", f"data.root={sounds}", "metrics=[rouge_l]")
    refused = run("evaluate", *given[1:], *data, f"out={tmp_path / 'scores'}")
    assert refused.returncode == 2
    assert "captions by someone/captioner, licence: cc-by-nc-4.0" in refused.stdout
    server.refusals.clear()
    done = run("infer", *given, f"captioner_revision={COMMIT}", f"out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert f"captions by someone/captioner@{COMMIT}, licence: cc-by-nc-4.0" in done.stdout
    assert "sure; caption not for commercial use)" in done.stdout
    row = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert (row["captioner"], row["captioner_licence"]) == (f"someone/captioner@{COMMIT}", "cc-by-nc-4.0")
    settings = {"_target_": "a2i.captioner.model.Captioner", "folder": "someone/captioner"}
    for captioner in (settings, "someone/captioner"):
        a2i = AudioToImage.load(captioner, None, "cpu", captioner_revision=COMMIT)
        assert a2i.name == f"someone/captioner@{COMMIT}"


@pytest.mark.parametrize(
    ("captioner", "revision", "said"),
    [
        ("someone/captioner", "v9", "it has no revision v9; expected a branch, tag or commit that it has"),
        ("{folder}", "v9", "which is not on the Hub; expected it with a Hub id: captioner=OWNER/NAME"),
        ("mini", "v9", "got captioner_revision=v9 with embedded, which is not on the Hub"),
    ],
)
def test_a_revision_that_there_is_not(
    server: StandIn, captioner_folder: Path, sounds: Path, tmp_path: Path, captioner: str, revision: str, said: str
) -> None:
    server.add("someone/captioner", captioner_folder)
    place = captioner.format(folder=captioner_folder)
    given = (f"audio={sounds / 'low.wav'}", "image=none", f"captioner={place}", f"captioner_revision={revision}")
    done = run("infer", *given, f"out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert said in done.stderr
    with pytest.raises((ValueError, FileNotFoundError), match=said.partition(";")[0].partition(" with embedded")[0]):
        AudioToImage.load(place, None, "cpu", captioner_revision=revision)
