import pytest

from a2i import decoders, encoders
from a2i.decoders import Decoding


def test_every_file_is_found_and_offers_its_class() -> None:
    assert encoders.names() == ["ast", "cnn"]
    assert decoders.names() == ["gpt2"]
    assert encoders.build("cnn", {"channels": [4, 8]}).width == 8
    assert decoders.build("gpt2", 300, {"config": {"n_embd": 16, "n_layer": 1, "n_head": 2}}).width == 16


@pytest.mark.parametrize("room", [encoders, decoders])
def test_an_unknown_name_is_refused(room: object) -> None:
    """A captioner folder can name only what lies in this package; nothing else is imported."""
    for name in ("os", "../../evil", "a2i.infer"):
        with pytest.raises(ValueError, match="expected one of"):
            room.build(name, *([1] if room is decoders else []), {})  # type: ignore[attr-defined]


def test_decoding_settings() -> None:
    assert Decoding(num_beams=4).with_changes(num_candidates=4).num_candidates == 4
    with pytest.raises(ValueError, match="no more candidates than"):
        Decoding(num_beams=1).with_changes(num_candidates=2)
    assert Decoding(num_beams=1, do_sample=True, num_candidates=2).num_candidates == 2
    with pytest.raises(ValueError, match="'beams'"):
        Decoding().with_changes(beams=4)
    with pytest.raises(ValueError, match="at least 1"):
        Decoding(num_beams=0)
    with pytest.raises(ValueError, match="0 < top_p"):
        Decoding(top_p=0.0)
