"""How often a captioner names the right source and no other: on a fold of ESC-10 and on newly made sounds.

A2I_REAL_DATA=FOLDER python experiments/mini/source_accuracy.py CAPTIONER [--fold 4] [--seed 1000] [--count 120]
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path

from rich.progress import track

from a2i import audio
from a2i.captioner import Captioner
from a2i.data import Clip
from a2i.data.esc10 import Esc10
from a2i.data.esc10_captions import kinds_named
from a2i.data.foley import Foley
from a2i.data.foley.captions import sources_named


def captions(captioner: Captioner, clips: list[Clip], title: str) -> dict[str, str]:
    """The best caption of each clip, by its name."""
    return {
        clip.name: captioner.caption([audio.load(clip.path)])[0][0].caption for clip in track(clips, description=title)
    }


def on_esc10(captioner: Captioner, root: Path, fold: int) -> None:
    source = Esc10(root, val_fold=fold)
    kinds = source.kinds("val")
    said = captions(captioner, source.clips("val"), f"ESC-10, fold {fold}")
    right = Counter(kinds[name] for name, caption in said.items() if kinds_named(caption) == {kinds[name]})
    whole = Counter(kinds.values())
    print(f"ESC-10, fold {fold}: {sum(right.values())} of {len(said)} = {sum(right.values()) / len(said):.3f}")
    for kind in sorted(whole):
        own = [caption for name, caption in said.items() if kinds[name] == kind]
        others = Counter("+".join(sorted(kinds_named(caption))) or "nothing" for caption in own)
        print(f"  {kind}: {right[kind]} of {whole[kind]}; said {dict(others.most_common())}")


def on_made_sounds(captioner: Captioner, seed: int, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Foley(folder, n_train=1, n_val=1, n_test=count, seed=seed, max_seconds=8)
        source.prepare()
        heard = source.heard("test")
        said = captions(captioner, source.clips("test"), f"made sounds, seed {seed}")
    right: Counter[int] = Counter()
    for name, caption in said.items():
        right[len(set(heard[name]))] += sources_named(caption) == set(heard[name])
    whole = Counter(len(set(sources)) for sources in heard.values())
    print(f"made sounds, seed {seed}: {sum(right.values())} of {len(said)} = {sum(right.values()) / len(said):.3f}")
    for sources in sorted(whole):
        print(f"  with {sources} source(s): {right[sources]} of {whole[sources]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder")
    parser.add_argument("--fold", type=int, default=4, help="of ESC-10, on which it was not trained")
    parser.add_argument("--seed", type=int, default=1000, help="of made sounds that it was not trained on")
    parser.add_argument("--count", type=int, default=120, help="made sounds")
    arguments = parser.parse_args()
    captioner = Captioner.load(arguments.captioner)
    print(json.dumps({"captioner": str(arguments.captioner)}))
    if os.environ.get("A2I_REAL_DATA"):
        on_esc10(captioner, Path(os.environ["A2I_REAL_DATA"]) / "esc10", arguments.fold)
    else:
        print("ESC-10: left out; set A2I_REAL_DATA to the folder that holds esc10/")
    on_made_sounds(captioner, arguments.seed, arguments.count)


if __name__ == "__main__":
    main()
