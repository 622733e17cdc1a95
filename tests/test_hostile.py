"""Files from strangers: for each reader of what may have been downloaded, a file that would run code if it could."""

import io
import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from a2i.captioner import Captioner
from a2i.captioner.encoders import read_weights
from a2i.captioner.encoders.sound_effects import read_published
from a2i.data import Clip, download
from a2i.data.cache import Cache
from a2i.data.tags import Tags
from a2i.diffusion import Painter
from a2i.metrics.captions import score_captions
from a2i.metrics.parts import Parts
from a2i.metrics.sentence_model import load as load_sentence_model
from a2i.model_card import _data
from a2i.training import checkpoints


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "was run"


def as_torch_saves(content: Any, path: Path) -> None:
    torch.save(content, path)


def as_torch_saved(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle_dumps(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


SAVERS = [as_torch_saves, as_torch_saved, as_pickle_dumps]


def the_encoders_weights(file: Path, folder: Path) -> None:
    read_weights(shutil.copy(file, folder / "Cnn14.pth"))


def the_sound_effects_weights(file: Path, folder: Path) -> None:
    read_published(shutil.copy(file, folder / "weights.pth"))


def the_sound_effects_wheel(file: Path, folder: Path) -> None:
    read_published(shutil.copy(file, folder / "aisfx-0.1.2-py3-none-any.whl"))


def a_checkpoint(file: Path, folder: Path) -> None:
    checkpoints.read(Path(shutil.copy(file, folder / "last.ckpt")))


def the_fluency_model(file: Path, folder: Path) -> None:
    found = score_captions(["a dog"], [["a cat"]], ["fense"], Parts(java="no-such-java", fluency_model=file))
    raise ValueError(found["fense"].missing)


def a_captioners_weights(file: Path, folder: Path) -> None:
    (folder / "captioner" / "model.safetensors").unlink()
    for name in ("model.safetensors", "pytorch_model.bin"):
        shutil.copy(file, folder / "captioner" / name)
    Captioner.load(folder / "captioner")


def a_captioners_lexicon(file: Path, folder: Path) -> None:
    shutil.copy(file, folder / "captioner" / "lexicon.json")
    Captioner.load(folder / "captioner")


def a_picture_models_weights(file: Path, folder: Path) -> None:
    for weights in (folder / "painter" / "unet").glob("*.safetensors"):
        weights.unlink()
    shutil.copy(file, folder / "painter" / "unet" / "diffusion_pytorch_model.bin")
    Painter(str(folder / "painter"), device="cpu", steps=1)


def a_lora(file: Path, folder: Path) -> None:
    (folder / "lora").mkdir()
    shutil.copy(file, folder / "lora" / "pytorch_lora_weights.bin")
    with pytest.raises(ValueError, match="no safetensors file"):
        Painter(str(folder / "painter"), device="cpu", steps=1, lora=str(folder / "lora"))
    shutil.copy(file, folder / "lora" / "pytorch_lora_weights.safetensors")
    Painter(str(folder / "painter"), device="cpu", steps=1, lora=str(folder / "lora"))


def the_model_of_bertscore(file: Path, folder: Path) -> None:
    (folder / "bert").mkdir()
    tiny = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(**tiny)).save_pretrained(folder / "bert")
    (folder / "bert" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc")
    (folder / "bert" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    load_sentence_model(str(folder / "bert"))
    (folder / "bert" / "model.safetensors").unlink()
    shutil.copy(file, folder / "bert" / "pytorch_model.bin")
    load_sentence_model(str(folder / "bert"))


def a_table_of_tags(file: Path, folder: Path) -> None:
    Tags(shutil.copy(file, folder / "tags.npz"), folder).of([Clip("a", folder / "a.wav", ())])


READERS = [
    the_encoders_weights, the_sound_effects_weights, the_sound_effects_wheel, a_checkpoint, the_fluency_model,
    a_captioners_weights, a_captioners_lexicon, a_picture_models_weights, a_lora, the_model_of_bertscore, a_table_of_tags,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=lambda reader: reader.__name__)
def test_no_pickle_is_run(
    read: Callable[[Path, Path], None], mark: Path, captioner_folder: Path, painter_folder: Path, tmp_path: Path
) -> None:
    content = {"model": Touch(mark), "state_dict": Touch(mark)}
    for number, save in enumerate(SAVERS):
        folder = tmp_path / str(number)
        shutil.copytree(captioner_folder, folder / "captioner")
        shutil.copytree(painter_folder, folder / "painter")
        save(content, folder / "hostile")
        with pytest.raises((ValueError, OSError)) as refused:
            read(folder / "hostile", folder)
        assert "can still be loaded" not in str(refused.value)  # as torch goes on to say
        assert not mark.exists()


def test_it_would_have_been_run(mark: Path, tmp_path: Path) -> None:
    for save in SAVERS:
        save({"model": Touch(mark)}, tmp_path / "hostile")
        if save is as_pickle_dumps:
            pickle.loads((tmp_path / "hostile").read_bytes())
        else:
            torch.load(tmp_path / "hostile", weights_only=False)
        assert mark.exists()
        mark.unlink()


def test_an_array_of_objects_in_a_cache_is_made_anew(mark: Path, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"sound")
    cache = Cache(tmp_path / "cache", {"kind": "test"}, lambda clip: np.ones(4, np.float32), 4)
    clip = Clip("a", sound, ())
    cache(clip)
    (entry,) = cache.entries.rglob("*.npy")
    with entry.open("wb") as file:
        np.save(file, np.array([Touch(mark)] * 4, dtype=object), allow_pickle=True)
    assert np.array_equal(cache(clip), np.ones(4, np.float32))
    assert not mark.exists()


def python(mark: Path) -> str:
    return f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil:\n    pass\n"


@pytest.mark.parametrize(
    ("changes", "file"),
    [
        ({"unet": ["evil", "Evil"]}, "unet/evil.py"),
        ({"unet": ["evil", "Evil"]}, "evil.py"),
        ({"scheduler": ["on_the_path", "Evil"]}, "on_the_path.py"),
        ({"scheduler": ["os", "system"]}, None),
        ({"_class_name": ["pipeline", "Evil"]}, "pipeline.py"),
        ({"_class_name": "Evil"}, "pipeline.py"),
    ],
)
def test_no_code_of_a_picture_model_is_run(
    changes: dict[str, Any],
    file: str | None,
    mark: Path,
    painter_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = Path(shutil.copytree(painter_folder, tmp_path / "painter"))
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    if file is not None:
        (folder / file).write_text(python(mark))
        monkeypatch.syspath_prepend(folder if file.startswith("on") else tmp_path)
    with pytest.raises(ValueError, match="could not load a picture model"):
        Painter(str(folder), device="cpu", steps=1)
    assert not mark.exists()


def test_no_code_of_a_sentence_model_is_run(mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    (tmp_path / "evil.py").write_text(python(mark))
    about = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        load_sentence_model(str(tmp_path))
    assert not mark.exists()


def test_no_code_of_a_runs_configuration_is_run(mark: Path, tmp_path: Path) -> None:
    touch = f"data: {{_target_: !!python/object/apply:pathlib.Path.touch [!!python/name:pathlib.Path, {mark}]}}"
    (tmp_path / "config.yaml").write_text(touch)
    assert _data(tmp_path / "captioner") == []
    assert not mark.exists()


def test_an_archive_leaves_nothing_outside_and_no_link(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr", reason="the extra 'download' is not installed")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link.wav").symlink_to(tmp_path / "secret")
    archive, folder = tmp_path / "hostile.7z", tmp_path / "out" / "below"
    with py7zr.SevenZipFile(archive, "w") as file:
        file.write(tmp_path / "link.wav", "link.wav")
        file.writestr(b"sound", "a.wav")
    try:
        download.unpack(archive, folder)
    except py7zr.Bad7zFile:
        folder.mkdir(parents=True)
    assert not [path for path in folder.iterdir() if path.is_symlink() or path.read_bytes() == b"secret"]
    for name in ("../../evil.wav", "..\\..\\evil.wav", f"{tmp_path}/evil.wav"):
        with py7zr.SevenZipFile(archive, "w") as file:
            file._writef(io.BytesIO(b"sound"), name)  # `writef` refuses such names
        with suppress(py7zr.Bad7zFile):
            download.unpack(archive, folder)
        outside = [path for path in tmp_path.rglob("*evil.wav") if folder not in path.parents]
        assert not outside
