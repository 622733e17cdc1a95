import json
from pathlib import Path

import pytest
import torch
from conftest import TINY_AST
from transformers import ASTConfig, ASTForAudioClassification

from a2i.captioner.encoders.ast import ASTEncoder

MODES = ["truncate", "window", "interpolate"]


def encoder(mode: str) -> ASTEncoder:
    torch.manual_seed(0)
    return ASTEncoder(config=TINY_AST, long_audio=mode).eval()  # type: ignore[arg-type]


def batch(*frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    longest = max(frames)
    return torch.randn(len(frames), longest, 128), torch.arange(longest) < torch.tensor(frames)[:, None]


@pytest.mark.parametrize("mode", MODES)
def test_a_full_clip_equals_transformers(mode: str) -> None:
    model = encoder(mode)
    log_mel, mask = batch(1024, 1024)
    states, states_mask = model(log_mel, mask)
    assert states.shape == (2, 1214, 32)
    assert states_mask.all()
    assert torch.allclose(states, model.model(log_mel).last_hidden_state, atol=1e-5)


def test_a_short_clip_equals_transformers_with_its_mask() -> None:
    """ASTModel on the padded 1,024 frames, its mask over patches, gives the same states for the real ones."""
    model = encoder("window")
    log_mel, mask = batch(500)
    states, states_mask = model(log_mel, mask)
    columns = 50  # the last begins at frame 490 and is filled up with padding
    padded = torch.full((1, 1024, 128), 4.2677393 / (2 * 4.5689974))
    padded[:, :500] = log_mel
    patches = (torch.arange(101) < columns).repeat(12)
    attended = torch.cat((torch.ones(2, dtype=torch.bool), patches))
    expected = model.model(padded, attention_mask=attended[None].long()).last_hidden_state
    assert states_mask.sum() == attended.sum()
    assert torch.allclose(states[states_mask], expected[:, attended][0], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [(1, 700), (1025, 40), (2949, 1500, 300), (2500, 1020, 1016, 1024)])
def test_batch_equals_one_by_one(mode: str, frames: tuple[int, ...]) -> None:
    model = encoder(mode)
    log_mel, mask = batch(*frames)
    states, states_mask = model(log_mel, mask)
    for index, count in enumerate(frames):
        alone, alone_mask = model(log_mel[index : index + 1, :count], mask[index : index + 1, :count])
        assert torch.allclose(states[index][states_mask[index]], alone[alone_mask], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_masked_frames_change_nothing(mode: str) -> None:
    model = encoder(mode)
    log_mel, mask = batch(1500, 333)
    states, states_mask = model(log_mel, mask)
    changed, _ = model(torch.where(mask[:, :, None], log_mel, 7.0), mask)
    assert torch.equal(states[states_mask], changed[states_mask])


@pytest.mark.parametrize(("mode", "hears"), [("truncate", False), ("window", True), ("interpolate", True)])
def test_what_comes_after_ten_seconds(mode: str, hears: bool) -> None:
    model = encoder(mode)
    log_mel, mask = batch(2500)
    before = model(log_mel, mask)[0]
    log_mel[:, 2000:2100] += 3.0
    assert torch.equal(model(log_mel, mask)[0], before) is not hears


def test_many_windows_are_encoded_in_groups() -> None:
    """An hour's windows never lie in memory together; the last group may hold nothing but a short one."""
    model = encoder("window")
    log_mel, mask = batch(16 * 1016 + 30, 2000)
    with torch.no_grad():
        grouped, grouped_mask = model(log_mel, mask)
    at_once, at_once_mask = model(log_mel, mask)
    assert torch.equal(grouped_mask, at_once_mask)
    assert torch.allclose(grouped, at_once, atol=1e-5)


def test_windows_leave_no_frame_between_them() -> None:
    """Every single frame but those that fill no patch at the very end reaches the states."""
    model = encoder("window")
    log_mel, mask = batch(2100)
    log_mel.requires_grad_(True)
    states, states_mask = model(log_mel, mask)
    states[states_mask].pow(2).sum().backward()
    assert log_mel.grad is not None
    assert (log_mel.grad[0].abs().sum(1) > 0).all()


def test_long_clips_have_states_for_their_length() -> None:
    log_mel, mask = batch(3000, 1200)
    per_mode = {mode: encoder(mode)(log_mel, mask)[1].sum(1).tolist() for mode in MODES}
    assert per_mode["truncate"] == [1214, 1214]
    assert per_mode["window"] == [1214 + 1214 + 2 + 12 * 97, 1214 + 2 + 12 * 18]
    assert per_mode["interpolate"] == [2 + 12 * 300, 2 + 12 * 120]


@pytest.mark.parametrize("published_names", [True, False])
def test_a_hub_classifier_loads_whole(tmp_path: Path, published_names: bool) -> None:
    """A checkpoint as it lies on the Hub: a classifier, under the names that the published file has."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    classifier = ASTForAudioClassification(ASTConfig(**TINY_AST, num_labels=5))
    classifier.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if published_names:
        weights = {published_name(name): weight for name, weight in weights.items()}
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = ASTEncoder(pretrained=str(tmp_path)).model.state_dict()
    for name, weight in classifier.audio_spectrogram_transformer.state_dict().items():
        assert torch.equal(loaded[name], weight), name


def published_name(name: str) -> str:
    """transformers 5's name → the one in MIT/ast-finetuned-audioset-10-10-0.4593."""
    renamed = {
        ".layers.": ".encoder.layer.",
        ".attention.q_proj.": ".attention.attention.query.",
        ".attention.k_proj.": ".attention.attention.key.",
        ".attention.v_proj.": ".attention.attention.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }
    for new, old in renamed.items():
        name = name.replace(new, old)
    return name


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    ASTForAudioClassification(ASTConfig(**TINY_AST)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.1" not in name and "layers.1" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="of AST's weights"):
        ASTEncoder(pretrained=str(tmp_path))


def test_settings_build_the_same_encoder_again() -> None:
    model = encoder("interpolate")
    again = ASTEncoder(**json.loads(json.dumps(model.settings))).eval()
    again.load_state_dict(model.state_dict())
    log_mel, mask = batch(1100)
    assert torch.equal(again(log_mel, mask)[0], model(log_mel, mask)[0])
    assert again.width == 32


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of truncate, window, interpolate"):
        ASTEncoder(config=TINY_AST, long_audio="cut")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected one"):
        ASTEncoder(pretrained="x", config=TINY_AST)
    with pytest.raises(ValueError, match="could not load an AST checkpoint from"):
        ASTEncoder(pretrained=str(tmp_path))
    with pytest.raises(ValueError, match="64 mel bins"):
        encoder("window")(torch.zeros(1, 100, 64), torch.ones(1, 100, dtype=torch.bool))
