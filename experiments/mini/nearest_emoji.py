"""Whether drawings are known for what they should be: each is held against all emoji.

    A2I_REAL_DATA=FOLDER python experiments/mini/nearest_emoji.py [--seeds 4] [--sheet sheet.png]

A drawing and an emoji are alike by the correlation of their inverted 32 × 32 pixels on white. Right is a sentence whose
emoji is the nearest of them all.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from painter_data import HEARD, first_named
from PIL import Image, ImageDraw
from rich.progress import track

from a2i import AudioToImage
from a2i.data.foley.recipe import Settings, captions_of
from a2i.diffusion import Painter

SENTENCES = {
    "A dog barks.": "u1f415",
    "Rain falls.": "u1f327",
    "Waves wash ashore.": "u1f30a",
    "A baby is crying.": "u1f476",
    "A clock ticks.": "u23f0",
    "A person sneezes.": "u1f927",
    "A helicopter flies past.": "u1f681",
    "A chainsaw cuts wood.": "u1fa9a",
    "A rooster crows.": "u1f413",
    "A fire crackles.": "u1f525",
    "The wind blows.": "u1f32c",
    "A bell rings.": "u1f514",
    "A siren wails.": "u1f6a8",
    "Birds are singing.": "u1f426",
    "An engine runs.": "u1f697",
    "Footsteps are heard.": "u1f463",
    "Thunder rolls.": "u1f329",
    "Crickets chirp.": "u1f997",
    "Water drips.": "u1f4a7",
}


def made_sentences(count: int) -> list[tuple[str, str]]:
    """Sentences about made sounds of a seed that the painter has not learnt from, and the emoji of what they name first."""
    settings = Settings(seed=77)
    codes = {source: code for code, names in HEARD.items() for source in names}
    texts = [captions_of(settings, "test", index)[0] for index in range(count)]
    return [(text, codes[first_named(text) or ""]) for text in texts]


def descriptor(image: Image.Image) -> np.ndarray:
    """(3072,) unit vector of a picture."""
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    ink = 255 - np.asarray(white.convert("RGB").resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    ink -= ink.mean()
    return (ink / max(float(np.linalg.norm(ink)), 1e-6)).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="drawings of each sentence")
    parser.add_argument("--made", type=int, default=120, help="sentences about made sounds")
    parser.add_argument("--sheet", type=Path, help="write all drawings as one picture")
    arguments = parser.parse_args()
    files = sorted((Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png").glob("*.png"))
    known = np.stack([descriptor(Image.open(file)) for file in files])
    painter = AudioToImage.load().painter
    assert isinstance(painter, Painter)
    sheet = Image.new("RGB", (70 * arguments.seeds + 180, 70 * len(SENTENCES)), "white")
    right = 0
    for row, (sentence, code) in enumerate(track(SENTENCES.items(), description="drawing")):
        found = []
        for seed in range(arguments.seeds):
            drawing = painter.draw(sentence, seed).image
            found.append(files[int((known @ descriptor(drawing)).argmax())].stem.removeprefix("emoji_"))
            sheet.paste(drawing, (70 * seed, 70 * row))
        ImageDraw.Draw(sheet).text((70 * arguments.seeds + 4, 70 * row + 26), sentence, fill="black")
        right += sum(name == code for name in found)
        print(f"{sentence} {' '.join('right' if name == code else name for name in found)}")
    print(f"{right} of {len(SENTENCES) * arguments.seeds} drawings are nearest to the emoji that was meant")
    made = made_sentences(arguments.made)
    wrong = []
    for sentence, code in track(made, description="drawing what the captioner may say"):
        name = files[int((known @ descriptor(painter.draw(sentence).image)).argmax())].stem.removeprefix("emoji_")
        wrong += [f"{sentence} {name}"] if name != code else []
    print(
        f"{len(made) - len(wrong)} of {len(made)} sentences about made sounds, drawn as what they name first; wrong:",
        *wrong,
        sep="\n  ",
    )
    if arguments.sheet:
        sheet.save(arguments.sheet)


if __name__ == "__main__":
    main()
