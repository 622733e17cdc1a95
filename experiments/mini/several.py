"""How sure must a captioner be that two sources are heard? What each value costs, and finds.

    A2I_REAL_DATA=FOLDER python experiments/mini/several.py 1=RUN1/captioner 2=RUN2/captioner …

`FOLD=` says on which fold of ESC-10 a captioner has not been trained. Told are keywords, before any caption is written: of
unheard recordings one is right, of new made sounds one or two. `ratio` is another way to tell two: by how much less likely
than the first the second label is, without asking whether there are two.
"""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

import torch
from rich.progress import track

from a2i import audio
from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.data import NAMELESS, Clip
from a2i.data.esc10 import Esc10
from a2i.data.foley import Foley

SECONDS = 7.0  # of the longest made sound, as in training


@torch.no_grad()
def heard(captioner: Captioner, clip: Clip) -> tuple[list[str], float, float]:
    """The two likeliest labels, the second's probability over the first's, and how sure it is that there are two."""
    keywords = captioner.bridge
    assert isinstance(keywords, KeywordBridge)
    waveform = torch.from_numpy(audio.load(clip.path, captioner.sampling_rate))[None]
    log_mel, mask = captioner.log_mel(waveform, torch.tensor([waveform.shape[1]]))
    states, states_mask = captioner.encoder(log_mel, mask)
    best = keywords.label_head(states, states_mask).exp()[0].topk(2)
    names = [[*keywords.names, "nothing"][index] for index in best.indices]
    evidence = (keywords.several_inputs(states, states_mask) - keywords.mean) / keywords.std
    return names, float(best.values[1] / best.values[0]), float(keywords.several(evidence)[0, 0].sigmoid())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioners", nargs="+", help="FOLD=FOLDER")
    parser.add_argument("--seed", type=int, default=1000, help="of made sounds that none was trained on")
    parser.add_argument("--count", type=int, default=120, help="made sounds")
    arguments = parser.parse_args()
    rows = []
    for item in arguments.captioners:
        fold, _, folder = item.partition("=")
        captioner = Captioner.load(folder)
        with tempfile.TemporaryDirectory() as made:
            foley = Foley(made, n_train=0, n_val=0, n_test=arguments.count, seed=arguments.seed, max_seconds=SECONDS)
            foley.prepare()
            esc10 = Esc10(Path(os.environ["A2I_REAL_DATA"]) / "esc10", val_fold=int(fold))
            for clip in track([*esc10.clips("val"), *foley.clips("test")], description=f"fold {fold}"):
                kind = "recordings" if clip.path.suffix == ".ogg" else f"made, {len(clip.labels or ())}"
                rows.append((kind, clip.labels, *heard(captioner, clip)))
    kinds = Counter(row[0] for row in rows)
    print("told two where", *(f"{kind} ({count})" for kind, count in kinds.items()), sep=" | ")
    for way, values in (("sure", (0.5, 0.7, 0.9, 0.95, 0.98, 0.99, 1.0)), ("ratio", (0.2, 0.3, 0.4, 0.5))):
        for value in values:
            right = Counter()
            for kind, labels, names, ratio, sure in rows:
                two = (
                    (sure if way == "sure" else ratio) > value and NAMELESS.isdisjoint(names) and "nothing" not in names
                )
                right[kind] += frozenset(names[: 1 + two]) == labels
            print(f"{way} > {value}", *(right[kind] for kind in kinds), sep=" | ")
    both = sum(frozenset(names) == labels for kind, labels, names, *_ in rows if kind == "made, 2")
    print(f"the two likeliest labels are the true ones in {both} of {kinds['made, 2']}")


if __name__ == "__main__":
    main()
