"""How much of a newly learnt text model to take: points on the line between the former's weights and the new one's, each judged
by drawings of other seeds, sentences and pairs than those that nearest_emoji.py judges by.

    A2I_REAL_DATA=FOLDER python experiments/mini/choose_share.py --learnt RUN/painter [--shares 1 0.5 0] [--parts scenes]
"""

import argparse
import os
from pathlib import Path

from captioner_says import read_said
from nearest_emoji import SCENES, Album
from painter_data import held_out_pairs, layout, read_kinds
from rich.progress import track
from safetensors.torch import load_file

from a2i.diffusion import Painter
from a2i.paths import MINI_PAINTER

BATCH = 15
Told = tuple[int, str, tuple[str, ...]]  # seed, sentence, codes of what is to be drawn


def parts_told() -> dict[str, list[Told]]:
    """Scenes of two; of pairs that were held out, the half that nearest_emoji.py leaves; of every second kind, the second
    likeliest sentence."""
    pictures, pairs = read_kinds(), held_out_pairs()
    pairs = pairs[len(pairs) // 2 :]
    kinds = [(kinds[0], texts) for kinds, texts in read_said().items() if len(kinds) == 1][::2]
    return {
        "scenes": [(seed, text, layout(*codes)) for seed in (3, 4) for text, codes in SCENES.items()],
        "said of pairs": [
            (9 + 11 * number, text, layout(pictures[first][0], pictures[second][0]))
            for number, ((first, second), text) in enumerate(pairs)
        ],
        "said of kinds": [
            (9 + 11 * number, texts[1] if texts[1:] else texts[0], layout(*codes) if codes[1:] else codes)
            for number, (codes, texts) in enumerate((pictures[kind], texts) for kind, texts in kinds)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learnt", type=Path, required=True, help="painter folder whose text model is new")
    parser.add_argument("--former", type=Path, default=MINI_PAINTER)
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.5, 0.0], help="of the new weights")
    parts = parts_told()
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    arguments = parser.parse_args()
    album = Album(Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png")
    painter = Painter(str(arguments.former), steps=8, guidance_scale=3.0, safety_checker=False)
    former, learnt = (
        {name: weight.float() for name, weight in load_file(folder / "text_encoder" / "model.safetensors").items()}
        for folder in (arguments.former, arguments.learnt)
    )
    for share in arguments.shares:
        mixed = {name: weight.lerp(learnt[name], share).half().float() for name, weight in former.items()}
        painter.pipeline.text_encoder.load_state_dict(mixed)
        for part in arguments.parts:
            told, right = parts[part], 0
            for start in track(range(0, len(told), BATCH), f"{share:g}, {part}"):
                seeds, texts, codes = zip(*told[start : start + BATCH], strict=True)
                drawings = painter.draw_batch(texts, seeds)
                right += sum(album.found(d.image, len(c)) == c for d, c in zip(drawings, codes, strict=True))
            print(f"{share:g}, {part}: {right} of {len(told)}")


if __name__ == "__main__":
    main()
