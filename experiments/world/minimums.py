"""How likely must keywords be to be told? What each minimum of `KeywordBridge` costs, and finds.

    A2I_REAL_DATA=FOLDER python experiments/world/minimums.py RUN/captioner
    A2I_REAL_DATA=FOLDER python experiments/world/minimums.py RUN/captioner data.sources.esc10.val_fold=1

It hears the recordings that the training held out (`data=world`, with the same changes as in the training), and two of them at
once or in turn. Told are keywords, before any caption is written. Keywords are right where they are the very labels.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from source_accuracy import held_out, two_at_once

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.data import NAMELESS, Clip
from a2i.data.kinds import KINDS

LIKELY = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
CATEGORY = (0.3, 0.5, 0.7)
TWO = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999, 0.9999995, 0.9999998, 1.0)


@dataclass(frozen=True)
class Told:
    """What `KeywordBridge` reads and finds of a sound."""

    labels: frozenset[str]
    name: str  # the likeliest label, and its probability
    probability: float
    pair: tuple[str, str]  # the two that would be told
    category: str  # the likeliest, and its probability
    category_probability: float
    two: float  # the probability that there are two sources


@torch.no_grad()
def told(captioner: Captioner, clips: Sequence[Clip], description: str) -> list[Told]:
    bridge = captioner.bridge
    assert isinstance(bridge, KeywordBridge)
    names = [*bridge.names, "none of them"]
    categories = list(bridge.settings["categories"])
    found = []
    for clip in track(clips, description=description):
        waveform = torch.from_numpy(audio.load(clip.path, captioner.sampling_rate, clip.start, clip.end))[None]
        states, mask = captioner.encoder(*captioner.log_mel(waveform, torch.tensor([waveform.shape[1]])))
        read = bridge.read(states, mask)
        probabilities = bridge.label_head.told(read).exp()
        # As `KeywordBridge.estimate`: one is looked for in the whole, two in each half.
        best, pair = probabilities[0, 0].max(dim=0), probabilities[min(1, len(read) - 1) :].amax(dim=0)[0].topk(2)
        held, which = (probabilities[0] @ bridge.members)[0].max(dim=0)
        inputs = (bridge.several_inputs(read) - bridge.mean) / bridge.std
        first, second = (names[index] for index in pair.indices.tolist())
        found.append(
            Told(
                clip.labels or frozenset(),
                names[int(best.indices)],
                float(best.values),
                (first, second),
                categories[int(which)],
                float(held),
                float(bridge.several(inputs)[0, 0].sigmoid()),
            )
        )
    return found


def one_keyword(sounds: Sequence[Told]) -> None:
    """A row for each minimum of a keyword and of a category."""
    print(f"\nOf {len(sounds)} recordings of one source\n")
    print("keyword at least | category at least | right | category right | category wrong | nothing | wrong")
    for likely in LIKELY:
        for category in CATEGORY:
            count: Counter[str] = Counter()
            for sound in sounds:
                (label,) = sound.labels
                if sound.probability >= likely:
                    count["right" if sound.name == label else "wrong"] += 1
                elif sound.category_probability >= category:
                    fits = sound.category in (label, KINDS[label].category)
                    count["category right" if fits else "category wrong"] += 1
                else:
                    count["nothing"] += 1
            shares = ("right", "category right", "category wrong", "nothing", "wrong")
            print(likely, category, *(count[name] for name in shares), sep=" | ")


def two_keywords(sets: dict[str, list[Told]]) -> None:
    """A row for each minimum of two sources."""
    print("\ntold two where at least", *(f"{name} ({len(sounds)})" for name, sounds in sets.items()), sep=" | ")
    for minimum in TWO:
        right: Counter[str] = Counter()
        for name, sounds in sets.items():
            for sound in sounds:
                alone = {*NAMELESS, "none of them"} & {*sound.pair}
                keywords = sound.pair if sound.two > minimum and not alone else (sound.name,)
                right[name] += frozenset(keywords) == sound.labels
        print(minimum, *(right[name] for name in sets), sep=" | ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("overrides", nargs="*", help="changes of data=world, as in the captioner's training")
    parser.add_argument("--seed", type=int, default=2000, help="of the pairs")
    parser.add_argument("--count", type=int, default=120, help="pairs at once, and as many in turn")
    arguments = parser.parse_args()
    if not os.environ.get("A2I_REAL_DATA"):
        parser.error("A2I_REAL_DATA is not set: it tells the folder that holds esc10/, sounds/ …")
    captioner = Captioner.load(arguments.captioner)
    single = [clip for clips in held_out(arguments.overrides).values() for clip in clips]
    with tempfile.TemporaryDirectory() as folder:
        pairs = two_at_once(single, Path(folder), captioner.sampling_rate, arguments.seed, arguments.count)
        sets = {name: told(captioner, clips, name) for name, clips in {"one recording": single, **pairs}.items()}
    one_keyword(sets["one recording"])
    two_keywords(sets)


if __name__ == "__main__":
    main()
