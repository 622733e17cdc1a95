"""Captioners and painters of a plug-in, through infer and evaluate: none of them is taken for one of a2i's own."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from a2i import plugins
from a2i.command_line import composed
from a2i.evaluate.kept import made_by
from a2i.evaluate.settings import check as check_evaluate
from a2i.infer import caption_and_draw, check
from a2i.names import is_folder, is_mini, name_of

CODE = """
from PIL import Image
from a2i.captioner.candidates import Candidate
from a2i.captioner.model import Captioner
from a2i.diffusion import Drawing
from a2i.paths import MINI_CAPTIONER

class Teal:
    name, licence, colour = "colours", None, "teal"
    def __init__(self, device=None) -> None: ...
    def draw_batch(self, captions, seeds, show_progress=False):
        return [Drawing(Image.new("RGB", (8, 8), self.colour), caption, None) for caption in captions]
    def tokens_over(self, caption):
        return 0

class Red(Teal):
    colour = "red"

def from_shelf(shelf, device):
    return Captioner.load(MINI_CAPTIONER, device)

class Shelf:
    def __init__(self, folder: int, device=None) -> None:
        self.model = Captioner.load(MINI_CAPTIONER, device)
    def __getattr__(self, name):
        return getattr(self.model, name)
"""


@pytest.fixture(autouse=True)
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(plugins, "_allowed", {})
    folder = tmp_path / "other_models"
    folder.mkdir()
    (folder / "__init__.py").write_text(CODE)
    plugins.use(str(folder))
    yield
    del sys.modules["other_models"]


def infer(sounds: Path, out: Path, **values: Any) -> dict[str, Any]:
    caption_and_draw(composed("infer", {"audio": str(sounds / "low.wav"), "out": out, "device": "cpu", **values}))
    (line,) = (out / "results.jsonl").read_text().splitlines()
    row: dict[str, Any] = json.loads(line)
    return row


def test_a_painter_without_settings_draws(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    """Also where captions alone were made before; and no painter is taken for another with the same settings."""
    from PIL import Image

    out, captioner = tmp_path / "out", {"captioner": str(captioner_folder)}
    assert infer(sounds, out, **captioner, image="none")["image"] is None
    for name, colour in (("Teal", (0, 128, 128)), ("Red", (255, 0, 0))):
        row = infer(sounds, out, **captioner, image={"_target_": f"other_models.{name}"})
        with Image.open(row["image"]) as image:
            assert image.getpixel((0, 0)) == colour
    before = (out / "results.jsonl").read_bytes()
    infer(sounds, out, **captioner, image={"_target_": "other_models.Red"})
    assert (out / "results.jsonl").read_bytes() == before, "nothing was left to do"


def test_a_folder_of_a_plug_ins_captioner_is_its_own_setting(sounds: Path, tmp_path: Path) -> None:
    shelf = {"_target_": "other_models.Shelf", "folder": 3}
    assert not is_folder(shelf)
    assert not is_mini({**shelf, "folder": "embedded"})
    assert name_of({**shelf, "folder": "embedded"}) != "mini"
    assert infer(sounds, tmp_path / "out", captioner=shelf, image="none")["caption"]
    asked = {"audio": str(sounds / "low.wav"), "out": tmp_path / "out", "captioner": {**shelf, "folder": "three"}}
    with pytest.raises(ValueError, match=r"got captioner\.folder='three'; expected a whole number"):
        check(composed("infer", asked))
    evaluated = check_evaluate(composed("evaluate", {"captioner": shelf, "out": tmp_path / "scores"}))
    assert made_by(shelf, evaluated)["captioner"] == shelf


@pytest.mark.parametrize("target", ["os.system", "other_models.from_shelf", "a2i.diffusion.Painter"])
def test_a_captioners_target_is_obeyed_or_refused(target: str, sounds: Path, tmp_path: Path) -> None:
    """Whatever the rest of its settings is, such as that of the small one which comes with a2i."""
    asked = {"audio": str(sounds / "low.wav"), "out": tmp_path / "out", "captioner._target_": target}
    with pytest.raises(ValueError, match="expected"):
        check(composed("infer", asked))


def test_a_folder_has_to_be_named(sounds: Path, tmp_path: Path) -> None:
    asked = composed("infer", {"audio": str(sounds / "low.wav"), "out": tmp_path / "out"}, ["~captioner.folder"])
    with pytest.raises(ValueError, match=r"got captioner\.folder=null; expected text"):
        check(asked)


def test_garbage_is_collected_again_however_it_ends(sounds: Path, captioner_folder: Path, tmp_path: Path) -> None:
    chosen = {"captioner": str(captioner_folder), "image": "none"}
    infer(sounds, tmp_path / "out", **chosen)
    infer(sounds, tmp_path / "out", **chosen)
    assert gc.isenabled(), "after there was nothing left to do"
    with pytest.raises(ValueError, match="got batch_size=0"):
        infer(sounds, tmp_path / "out", **chosen, batch_size=0)
    assert gc.isenabled(), "after an error"


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1])
def test_a_seed_that_none_can_use_is_refused_at_once(seed: int, sounds: Path, tmp_path: Path) -> None:
    asked = {"out": tmp_path / "out", "seed": seed}
    message = rf"got seed={seed}; expected a whole number from -2\^63 to 2\^64 - 1"
    with pytest.raises(ValueError, match=message):
        check(composed("infer", {"audio": str(sounds / "low.wav"), **asked}))
    with pytest.raises(ValueError, match=message):
        check_evaluate(composed("evaluate", {"captioner": "mini", **asked}))
    assert check(composed("infer", {"audio": str(sounds / "low.wav"), "out": asked["out"], "seed": 2**64 - 1})).seed
