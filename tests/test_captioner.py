import copy
import itertools
import json
import math
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import SENTENCES, TINY_AST, TINY_GPT2, full_disk, make_captioner, tone

from a2i.captioner import Captioner, decoders, encoders
from a2i.captioner.candidates import Calibration
from a2i.captioner.cleaning import Lexicon, words
from a2i.captioner.decoders.gpt2 import GPT2Decoder
from a2i.captioner.encoders.ast import ASTEncoder
from a2i.captioner.encoders.cnn import CNNEncoder
from a2i.captioner.text import CaptionTokenizer

SOUNDS = [tone(300, 1.2), tone(2000, 0.4), np.random.default_rng(0).normal(0, 0.1, 12 * 16_000).astype(np.float32)]


def features(captioner: Captioner, sounds: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(sound) for sound in sounds])
    padded = torch.zeros(len(sounds), int(lengths.max()))
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = torch.from_numpy(sound)
    return captioner.log_mel(padded, lengths)


@torch.no_grad()
def test_loss_equals_a_step_by_step_reference(captioner: Captioner) -> None:
    """Each token's probability from the prefix alone, one clip, one caption, one step at a time."""
    tokens = captioner.tokenizer.encode(SENTENCES)
    clip_index = torch.tensor([0, 0, 1, 2, 2])
    log_mel, mask = features(captioner, SOUNDS)
    loss, count = captioner.loss(log_mel, mask, tokens, clip_index)
    surprises = []
    for caption, clip in zip(SENTENCES, clip_index.tolist(), strict=True):
        states, states_mask, _ = captioner.encode(*features(captioner, [SOUNDS[clip]]))
        ids = captioner.tokenizer.tokenizer(caption, add_special_tokens=False)["input_ids"]
        prefix = [captioner.tokenizer.bos_id]
        for target in [*ids, captioner.tokenizer.eos_id]:
            ones = torch.ones(1, len(prefix), dtype=torch.bool)
            logits = captioner.decoder(torch.tensor([prefix]), ones, states, states_mask)
            surprises.append(-float(logits[0, -1].log_softmax(-1)[target]))
            prefix.append(target)
    assert int(count) == len(surprises)
    assert float(loss) == pytest.approx(sum(surprises) / len(surprises), abs=1e-5)


@torch.no_grad()
def test_first_loss_is_that_of_chance(captioner: Captioner) -> None:
    log_mel, mask = features(captioner, SOUNDS[:1])
    loss, _ = captioner.loss(log_mel, mask, captioner.tokenizer.encode(SENTENCES[:1]), torch.tensor([0]))
    assert abs(float(loss) - math.log(len(captioner.tokenizer))) < 0.5


def test_every_weight_learns(captioner: Captioner) -> None:
    captioner.train()
    log_mel, mask = features(captioner, SOUNDS)
    captioner.loss(log_mel, mask, captioner.tokenizer.encode(SENTENCES[:3]), torch.arange(3))[0].backward()
    still = [name for name, weight in captioner.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A key's bias shifts all scores of a query alike.
    assert [name for name in still if not name.endswith("k_proj.bias")] == []


def test_batch_equals_one_by_one(captioner: Captioner) -> None:
    together = captioner.caption(SOUNDS)
    for sound, candidates in zip(SOUNDS, together, strict=True):
        alone = captioner.caption([sound])[0]
        assert [candidate.caption for candidate in alone] == [candidate.caption for candidate in candidates]
        for one, other in zip(alone, candidates, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


@torch.no_grad()
def test_candidates_are_scored_as_the_loss_would(captioner: Captioner) -> None:
    (candidate, *others) = captioner.caption(SOUNDS[:1], num_beams=4, num_candidates=4, max_tokens=6)[0]
    assert len({candidate.caption, *(other.caption for other in others)}) == 1 + len(others)
    log_mel, mask = features(captioner, SOUNDS[:1])
    states, states_mask, _ = captioner.encode(log_mel, mask)
    ids = captioner.decoder.generate(
        states, states_mask, captioner.tokenizer.bos_id, captioner.tokenizer.eos_id,
        captioner.decoding.with_changes(num_beams=4, max_tokens=6, num_candidates=1),
    )  # fmt: skip
    row = ids[0].tolist()
    row = row[: row.index(captioner.tokenizer.eos_id, 1) + 1] if captioner.tokenizer.eos_id in row[1:] else row
    logits = captioner.decoder(
        torch.tensor([row[:-1]]), torch.ones(1, len(row) - 1, dtype=torch.bool), states, states_mask
    )
    chosen = logits[0].log_softmax(-1)[torch.arange(len(row) - 1), torch.tensor(row[1:])]
    assert candidate.log_probability == pytest.approx(float(chosen.mean()), abs=1e-4)


@pytest.mark.parametrize("length", [1, 6])
def test_sampled_candidates_come_best_first(captioner: Captioner, length: int) -> None:
    """Also where one caption is drawn several times, as short ones are."""
    sampled = {"num_beams": 1, "do_sample": True, "num_candidates": 40, "max_tokens": length, "temperature": 0.3}
    for seed in range(3):
        torch.manual_seed(seed)
        candidates = captioner.caption(SOUNDS[:1], **sampled)[0]
        scores = [candidate.log_probability for candidate in candidates]
        assert scores == sorted(scores, reverse=True)
        assert len({candidate.caption for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load_give_identical_captions(captioner: Captioner, tmp_path: Path, dtype: torch.dtype) -> None:
    expected = captioner.caption(SOUNDS)
    folder = captioner.save(tmp_path / "captioner", card="# mine\n", dtype=dtype)
    loaded = Captioner.load(folder)
    captions = [[candidate.caption for candidate in clip] for clip in loaded.caption(SOUNDS)]
    if dtype == torch.float32:
        assert loaded.caption(SOUNDS) == expected
    else:
        again = Captioner.load(loaded.save(tmp_path / "again"))
        assert captions == [[candidate.caption for candidate in clip] for clip in again.caption(SOUNDS)]
    assert not loaded.training
    assert next(loaded.parameters()).dtype == torch.float32
    assert (folder / "README.md").read_text() == "# mine\n"
    assert {file.name for file in folder.iterdir()} == {"README.md", "captioner.json", "model.safetensors", "tokenizer"}


def test_a_calibration_is_kept_and_gives_the_confidence(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    plain, *_ = captioner.caption(SOUNDS[:1])[0]
    assert plain.confidence == pytest.approx(math.exp(plain.log_probability))
    captioner.calibration = Calibration(scale=2.0, offset=1.0)
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    calibrated, *_ = loaded.caption(SOUNDS[:1])[0]
    assert calibrated.caption == plain.caption
    assert calibrated.confidence == pytest.approx(1 / (1 + math.exp(-(2 * plain.log_probability + 1))))


def test_the_published_recipe_is_kept_in_the_folder(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """Without a BOS in what it learns from, and with a lexicon by which its captions are cleaned."""
    captioner = make_captioner(CaptionTokenizer(tokenizer.tokenizer, 20, bos=False))
    raw = [clip[0].caption for clip in captioner.caption(SOUNDS)]
    with pytest.raises(ValueError, match="lacks the words of its training captions"):
        captioner.caption(SOUNDS, cleaning="published")
    with pytest.raises(ValueError, match="expected none or published"):
        captioner.caption(SOUNDS, cleaning="thorough")
    captioner.lexicon = Lexicon.of(SENTENCES, captioner.tokenizer)
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert not loaded.tokenizer.bos
    assert loaded.lexicon == captioner.lexicon
    cleaned = loaded.caption(SOUNDS, cleaning="published")
    assert [clip[0].caption for clip in cleaned] == [loaded.lexicon.clean(caption) for caption in raw]
    assert {word for clip in cleaned for one in clip for word in words(one.caption)} <= loaded.lexicon.words
    assert [clip[0].caption for clip in loaded.caption(SOUNDS)] == raw


def test_a_folder_from_before_these_settings_loads(captioner_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(captioner_folder, copy)
    settings = json.loads((copy / "captioner.json").read_text())
    assert settings["bridge"] == "projection"
    del settings["bos"], settings["decoding"]["cleaning"]
    (copy / "captioner.json").write_text(json.dumps(settings))
    assert Captioner.load(copy).caption(SOUNDS) == Captioner.load(captioner_folder).caption(SOUNDS)


def test_a_resampler_is_kept_in_the_folder(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = CNNEncoder(channels=[4, 8]), GPT2Decoder(len(tokenizer), config=TINY_GPT2)
    captioner = Captioner(*parts, tokenizer, bridge={"kind": "resampler", "queries": 3, "width": 16}).eval()
    states, mask, _ = captioner.encode(*features(captioner, SOUNDS))
    assert states.shape == (3, 3, 48)
    assert mask.all()
    loaded = Captioner.load(captioner.save(tmp_path / "captioner"))
    assert loaded.caption(SOUNDS, max_tokens=6) == captioner.caption(SOUNDS, max_tokens=6)


def test_saving_replaces_a_captioner_and_nothing_else(captioner: Captioner, tmp_path: Path) -> None:
    folder = captioner.save(tmp_path / "captioner")
    captioner.save(folder, card="second")
    assert (folder / "README.md").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["captioner"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="other than a captioner"):
        captioner.save(other)
    assert (other / "thesis.txt").read_text() == "precious"


def test_a_folder_that_is_no_captioner(captioner_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no captioner\.json there"):
        Captioner.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(captioner_folder, copy)
    settings = json.loads((copy / "captioner.json").read_text())
    (copy / "captioner.json").write_text(json.dumps({**settings, "format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        Captioner.load(copy)
    for change in ({"encoder": {"name": "ast", "settings": {"pretrained": "some/repository"}}}, {"bridge": None}):
        (copy / "captioner.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(ValueError, match="Expected a captioner folder as a2i writes it"):
            Captioner.load(copy)
    for text in ("{", '{"format": 1}'):
        (copy / "captioner.json").write_text(text)
        with pytest.raises(ValueError, match=str(copy)):
            Captioner.load(copy)
    settings["encoder"]["settings"]["channels"] = [4, 16]
    (copy / "captioner.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="weights don't fit"):
        Captioner.load(copy)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whom this process wants to speak to, with the Hub's client online: nobody answers."""
    import socket

    from huggingface_hub import constants

    called: list[object] = []

    def refuse(*address: object, **more: object) -> None:
        called.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return called


HOSTILE = {
    "attn_implementation": "kernels-community/flash-attn",
    "_attn_implementation": "kernels-community/flash-attn",
    "_attn_implementation_internal": "kernels-community/flash-attn",
    "experts_implementation": "kernels-community/moe",
    "auto_map": {"AutoConfig": "nobody/evil--configuration.Evil"},
    "trust_remote_code": True,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "pretrained": "nobody/weights",
    "revision": "evil",
    "text_config": {"attn_implementation": "kernels-community/flash-attn"},
    "list_of_configs": [{"auto_map": {}}],
}


@pytest.mark.parametrize("key", sorted(HOSTILE))
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_folder_from_a_stranger_reaches_out_to_nothing(
    tokenizer: CaptionTokenizer, tmp_path: Path, calls: list[object], part: str, key: str
) -> None:
    folder = make_captioner(tokenizer, "ast").save(tmp_path / "captioner")
    settings = json.loads((folder / "captioner.json").read_text())
    for place in (settings[part]["settings"]["config"], settings[part]["settings"]):
        place[key] = HOSTILE[key]
        (folder / "captioner.json").write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=r"names '.*'; expected settings that need no code"):
            Captioner.load(folder)
        del place[key]
    assert calls == []


def test_every_kind_of_part_takes_no_more_than_it_declares(
    tmp_path: Path, tokenizer: CaptionTokenizer, calls: list[object]
) -> None:
    """What a configuration of transformers does not declare, a checkpoint's leftovers, changes nothing."""
    captioner = make_captioner(tokenizer, "ast")
    folder = captioner.save(tmp_path / "captioner")
    settings = json.loads((folder / "captioner.json").read_text())
    for part in ("encoder", "decoder"):
        settings[part]["settings"]["config"] |= {"n_ctx": 1024, "return_dict": False, "kernel": "nobody/evil"}
    (folder / "captioner.json").write_text(json.dumps(settings))
    loaded = Captioner.load(folder)
    assert loaded.caption(SOUNDS) == captioner.caption(SOUNDS)
    assert loaded.encoder.settings == captioner.encoder.settings
    assert loaded.decoder.settings == captioner.decoder.settings
    assert calls == []


@pytest.mark.parametrize("room", [encoders, decoders])
def test_no_kind_of_part_takes_other_weights_from_a_folder(
    captioner_folder: Path, tmp_path: Path, calls: list[object], room: ModuleType
) -> None:
    part = room.__name__.rsplit(".", 1)[-1].removesuffix("s")
    shutil.copytree(captioner_folder, tmp_path / "copy")
    settings = json.loads((tmp_path / "copy" / "captioner.json").read_text())
    for name in room.names():
        for hostile in ("pretrained", "revision", "attn_implementation"):
            changed = {**settings, part: {**settings[part], "name": name, "settings": {hostile: "nobody/evil"}}}
            (tmp_path / "copy" / "captioner.json").write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=f"names '{hostile}'"):
                Captioner.load(tmp_path / "copy")
    assert calls == []


def test_a_tokenizer_comes_from_the_folder_and_has_no_code(
    captioner_folder: Path, tmp_path: Path, calls: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(captioner_folder, "copy")
    about = Path("copy/tokenizer/tokenizer_config.json")
    about.write_text(
        json.dumps({**json.loads(about.read_text()), "auto_map": {"AutoTokenizer": ["nobody/x--y.Z", None]}})
    )
    with pytest.raises(ValueError, match="names 'auto_map', code"):
        Captioner.load("copy")
    shutil.rmtree("copy/tokenizer")
    with pytest.raises(ValueError, match="no tokenizer folder there"):  # the Hub could have a copy/tokenizer
        Captioner.load("copy")
    assert calls == []


def _nested(depth: int) -> dict[str, object]:
    bridge: dict[str, object] = {"kind": "identity"}
    for _ in range(depth):
        bridge = {"kind": "keywords", "names": ["dog"], "inner": bridge}
    return bridge


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("encoder", None),
        ("encoder", {"name": "cnn", "settings": None}),
        ("bridge", _nested(400)),
        ("bridge", []),
        ("decoder", {"name": "gru", "vocab_size": 10**15, "settings": {}}),
        ("decoder", {"name": "transformer", "vocab_size": 10, "settings": {"heads": 0}}),
        ("decoder", {"name": "gpt2", "vocab_size": 10, "settings": {"config": {"n_layer": "many"}}}),
        ("encoder", {"name": "ast", "settings": {"config": {"hidden_size": "many"}}}),
        ("features", {"sampling_rate": {}}),
    ],
    ids=["null", "no settings", "nested", "no bridge", "too large", "no heads", "no number", "no size", "features"],
)
def test_whatever_a_stranger_writes_is_refused_in_one_line(
    captioner_folder: Path, tmp_path: Path, part: str, value: object
) -> None:
    folder = Path(shutil.copytree(captioner_folder, tmp_path / "copy"))
    settings = json.loads((folder / "captioner.json").read_text())
    (folder / "captioner.json").write_text(json.dumps(settings | {part: value}))
    with pytest.raises(ValueError, match=r"^[^\n]*copy: [^\n]+\. Expected a captioner folder as a2i writes it$"):
        Captioner.load(folder)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["encoder.norm.weight", "encoder.normalise.running_var", "bridge.projection.bias"])
def test_a_number_that_is_none_is_neither_saved_nor_loaded(
    tokenizer: CaptionTokenizer, tmp_path: Path, name: str, bad: float
) -> None:
    from safetensors.torch import load_file, save_file

    captioner = make_captioner(tokenizer)
    folder = captioner.save(tmp_path / "captioner")
    weights = load_file(folder / "model.safetensors")
    captioner.state_dict()[name][0] = bad
    with pytest.raises(
        ValueError, match=rf"{name}: 1 of \d+ numbers are NaN or infinite; the captioner can't be saved"
    ):
        captioner.save(folder)
    assert [file.name for file in tmp_path.iterdir()] == ["captioner"]
    assert Captioner.load(folder).caption(SOUNDS[:1])
    weights[name][0] = bad
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"captioner: {name}: 1 of .* can't be loaded"):
        Captioner.load(folder)


@pytest.mark.parametrize("room", [1_000, 300_000])  # the weights, or the tokenizer, are too much
def test_a_full_disk_is_told_and_leaves_what_was_there(
    tokenizer: CaptionTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    folder = make_captioner(tokenizer).save(tmp_path / "captioner")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with full_disk(room), pytest.raises(OSError, match=r"can't be written \(.*\); expected .*captioner'"):
        make_captioner(tokenizer).save(folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_weights_that_float16_does_not_hold_are_not_saved_as_such(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    captioner.encoder.norm.weight.data[3] = 1e5
    assert Captioner.load(captioner.save(tmp_path / "captioner"))
    with pytest.raises(ValueError, match=r"encoder\.norm\.weight: 1 of .* can't be saved as float16"):
        captioner.save(tmp_path / "captioner", dtype=torch.float16)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_settings_are_finite_numbers(captioner_folder: Path, tmp_path: Path, number: str) -> None:
    shutil.copytree(captioner_folder, tmp_path / "copy")
    path = tmp_path / "copy" / "captioner.json"
    text = path.read_text()
    for key in ("mean", "dropout", "length_penalty"):
        path.write_text(re.sub(rf'("{key}":) [-\d.]+', rf"\1 {number}", text, count=1))
        with pytest.raises(ValueError, match=f"holds {number}, which is no finite number"):
            Captioner.load(tmp_path / "copy")
    captioner = Captioner.load(captioner_folder)
    captioner.decoder.model.config.layer_norm_epsilon = float(number)
    with pytest.raises(ValueError, match="settings can't be saved"):
        captioner.save(tmp_path / "captioner")


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a copy of this process")
def test_killed_at_any_moment_a_captioner_is_there(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    """A child process saves a second captioner over the first and ends at its n-th system call that changes a file's name or
    takes it away, and between the writing of any two files."""
    first, second = make_captioner(tokenizer, seed=0), make_captioner(tokenizer, seed=1)
    heard = {"num_beams": 1, "num_candidates": 1, "max_tokens": 4}
    captions = [captioner.caption(SOUNDS[1:2], **heard) for captioner in (first, second)]
    assert captions[0] != captions[1]
    found, step = [], 0
    while True:
        folder = tmp_path / str(step) / "captioner"
        first.save(folder)
        if (child := os.fork()) == 0:
            _end_at(step)
            second.save(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found.append(captions.index(Captioner.load(folder).caption(SOUNDS[1:2], **heard)))
        first.save(folder)
        assert Captioner.load(folder).caption(SOUNDS[1:2], **heard) == captions[0]
        left = [file.name for file in folder.parent.iterdir() if not file.name.startswith(".captioner.new-")]
        assert left == ["captioner"]
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.waitstatus_to_exitcode(status) == 9
        step += 1
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == 1
    assert step > 10


def _end_at(step: int) -> None:
    """End this process as a kill would, before its `step`-th change of a file."""
    changes = itertools.count()

    def watch(event: str, given: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(given[1], str) and given[1][:1] in "wax"
        if (writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")) and next(changes) == step:
            os._exit(9)

    sys.addaudithook(watch)


def test_what_a_killed_process_left_unfinished_is_swept_away(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    old, other = tmp_path / ".captioner.new-old", tmp_path / ".captioner.new-other"
    for folder in (old, other):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"1234")
    os.utime(old, (0, 0))
    captioner.save(tmp_path / "captioner")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".captioner.new-other", "captioner"]


def test_a_link_to_a_captioner_stays_one(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    captioner = make_captioner(tokenizer)
    captioner.save(tmp_path / "a" / "first")
    (tmp_path / "latest").symlink_to(tmp_path / "a" / "first")
    captioner.save(tmp_path / "latest", card="second")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "a" / "first" / "README.md").read_text() == "second"


def test_a_probability_that_is_no_number_is_an_error(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "rain"])
    for name in (
        "encoder.norm.weight",
        "decoder.model.transformer.ln_f.bias",
        "bridge.label_head.linear.bias",
    ):
        broken = copy.deepcopy(captioner)
        broken.state_dict()[name][0] = math.nan
        for more in ({}, {"do_sample": True, "num_beams": 1}):
            with pytest.raises(ValueError, match="expected finite"):
                broken.caption(SOUNDS[:2], **more)


def test_evidence_is_finite_where_a_probability_is_0(tokenizer: CaptionTokenizer) -> None:
    captioner = make_captioner(tokenizer, keywords=["bell", "rain"])
    captioner.bridge.settings["unlikely"] = "rain"
    captioner.bridge.label_head.linear.bias.data[:] = torch.tensor([0.0, -1e4, 0.0])
    best = captioner.caption(SOUNDS[:1])[0][0]
    assert math.isfinite(best.evidence)
    assert 0 <= best.confidence <= 1


@pytest.mark.parametrize("bad", [
    np.zeros(0, np.float32), np.zeros((2, 100), np.float32), np.full(100, np.nan, np.float32),
    np.full(100, 9.0, np.float32), np.zeros(100), np.zeros(100, np.int16),
], ids=["empty", "channels", "nan", "loud", "float64", "int16"])  # fmt: skip
def test_waveforms_that_a_captioner_does_not_take(tokenizer: CaptionTokenizer, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(samples,\) float32"):
        make_captioner(tokenizer).caption([SOUNDS[0], bad])
    with pytest.raises(ValueError, match="got no waveforms"):
        make_captioner(tokenizer).caption([])


def test_full_size_parts_load_from_folders_in_the_hubs_format(tmp_path: Path, real_data: Path) -> None:
    """AST and GPT-2 of the published shapes in all but depth and width, with the real tokenizer."""
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    ASTForAudioClassification(ASTConfig(**TINY_AST, num_labels=527)).save_pretrained(tmp_path / "ast")
    GPT2LMHeadModel(GPT2Config(**TINY_GPT2)).save_pretrained(tmp_path / "gpt2")
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    encoder = ASTEncoder(pretrained=str(tmp_path / "ast"))
    decoder = GPT2Decoder(len(tokenizer), pretrained=str(tmp_path / "gpt2"))
    captioner = Captioner(encoder, decoder, tokenizer).eval()
    caption = captioner.caption(SOUNDS[:1], num_beams=1, max_tokens=5)[0][0].caption
    assert caption
    assert Captioner.load(captioner.save(tmp_path / "captioner")).caption(SOUNDS[:1], num_beams=1, max_tokens=5)


@pytest.mark.slow
def test_the_full_size_captioner_is_built_from_folders(tmp_path: Path, real_data: Path) -> None:
    """AST-base and GPT-2 base at full size: every key loaded but the cross-attention."""
    from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

    ASTForAudioClassification(ASTConfig(num_labels=527)).save_pretrained(tmp_path / "ast")
    GPT2LMHeadModel(GPT2Config()).save_pretrained(tmp_path / "gpt2")
    tokenizer = CaptionTokenizer.load(real_data / "gpt2")
    captioner = Captioner(
        ASTEncoder(pretrained=str(tmp_path / "ast")),
        GPT2Decoder(len(tokenizer), pretrained=str(tmp_path / "gpt2")),
        tokenizer,
    ).eval()
    new = sum(captioner.decoder.get_parameter(name).numel() for name in captioner.decoder.new_parameters())
    assert 28e6 < new < 29e6
    assert captioner.bridge.kind == "identity"
    expected = captioner.caption(SOUNDS[:2], num_beams=1, max_tokens=4)
    assert (
        Captioner.load(captioner.save(tmp_path / "captioner")).caption(SOUNDS[:2], num_beams=1, max_tokens=4)
        == expected
    )


def test_an_encoder_of_another_width_is_projected(tokenizer: CaptionTokenizer) -> None:
    assert make_captioner(tokenizer, "ast").bridge.kind == "projection"


def test_bfloat16_learns_alike(captioner: Captioner) -> None:
    """Mixed precision: the spectrogram stays float32, the loss is that of float32 but for rounding."""
    tokens, clips = captioner.tokenizer.encode(SENTENCES[:3]), torch.arange(3)
    expected = captioner.loss(*features(captioner, SOUNDS), tokens, clips)[0].detach()
    with torch.autocast("cpu", torch.bfloat16):
        log_mel, mask = features(captioner, SOUNDS)
        assert log_mel.dtype == torch.float32
        loss, _ = captioner.loss(log_mel, mask, tokens, clips)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=0.02)
    assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in captioner.parameters())


def test_captions_in_bfloat16(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """From sounds and from states alike, as validation has them; the setting is this call's alone."""
    seen = []
    monkeypatch.setattr(
        captioner.decoder,
        "generate",
        lambda *given: seen.append(torch.is_autocast_enabled("cpu")) or torch.ones(2, 4, dtype=torch.long),
    )
    monkeypatch.setattr(captioner, "_log_probabilities", lambda *_: torch.zeros(2))
    states, mask = captioner.encoder(*features(captioner, SOUNDS[:2]))
    for changes in ({}, {"precision": "bfloat16"}):
        one = {"num_candidates": 1, **changes}
        captioner.caption(SOUNDS[:2], **one)
        captioner.caption_states(states, mask, captioner.decoding_with(**one))
    assert seen == [False, False, True, True]


def test_gradient_checkpointing_changes_no_gradient(tokenizer: CaptionTokenizer) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        captioner = Captioner(
            ASTEncoder(config=TINY_AST, gradient_checkpointing=checkpointing),
            GPT2Decoder(len(tokenizer), config={**TINY_GPT2, **no_dropout}, gradient_checkpointing=checkpointing),
            tokenizer,
        ).train()
        captioner.loss(*features(captioner, SOUNDS), tokenizer.encode(SENTENCES[:3]), torch.arange(3))[0].backward()
        gradients.append({name: weight.grad for name, weight in captioner.named_parameters()})
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0])


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# mine\n", "cc-by-nc-4.0"),
        ("# mine\n", None),
        ("", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: {\n---\n", None),
        ("---\n- a\n---\n", None),
    ],
)
def test_the_licence_is_that_of_the_card(
    tokenizer: CaptionTokenizer, tmp_path: Path, card: str, licence: str | None
) -> None:
    make_captioner(tokenizer).save(tmp_path / "one", card)
    assert Captioner.load(tmp_path / "one").licence == licence
