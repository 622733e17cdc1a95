"""Whether drawings are known for what they should be: each is held against all emoji.

    A2I_REAL_DATA=FOLDER python experiments/mini/nearest_emoji.py [--painter RUN/painter] [--sheets FOLDER]

A drawing and an emoji are alike by the correlation of their inverted 32 × 32 pixels on white. Right is a drawing whose
emoji is the nearest of them all; in a scene of two, the same of each corner's own part. That is mostly about shapes: the
colour error, the mean of |Δ(R − G)| and |Δ(B − G)| over those pixels, in levels of 0 to 255, tells an orange frog from a green
one.
"""

import argparse
import os
import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from captioner_says import read_said
from painter_data import OWN_JOINED, captioner_sentences, held_out_pairs, layout, read_kinds
from PIL import Image, ImageDraw
from rich.progress import track

from a2i.data.kinds import KINDS, NONE
from a2i.diffusion import Painter

USUAL = {  # nineteen kinds of sound, in the usual words
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
CONCEPTS = {
    "A cat meows.": "u1f408",
    "A cow is mooing.": "u1f404",
    "A horse gallops.": "u1f40e",
    "A pig grunts.": "u1f416",
    "A lion roars.": "u1f981",
    "The elephant trumpets loudly.": "u1f418",
    "A frog croaks at night.": "u1f438",
    "A fish swims.": "u1f41f",
    "A snake hisses.": "u1f40d",
    "A butterfly flutters.": "u1f98b",
    "A bus arrives.": "u1f68c",
    "A train passes by.": "u1f682",
    "Someone's bicycle rolls past.": "u1f6b2",
    "An airplane takes off.": "u2708",
    "A ship sails.": "u1f6a2",
    "A rocket launches.": "u1f680",
    "The sun is shining.": "u2600",
    "The moon rises.": "u1f319",
    "A snowflake.": "u2744",
    "An umbrella.": "u2602",
    "A hammer hits a nail.": "u1f528",
    "Scissors cut paper.": "u2702",
    "A bunch of keys jingles.": "u1f511",
    "Someone plays the guitar.": "u1f3b8",
    "A piano is playing.": "u1f3b9",
    "A drum beats.": "u1f941",
    "A trumpet plays.": "u1f3ba",
    "A violin plays softly.": "u1f3bb",
    "A red apple.": "u1f34e",
    "A banana.": "u1f34c",
    "A slice of pizza.": "u1f355",
    "A piece of cake.": "u1f370",
    "A cup of coffee.": "u2615",
    "A tree sways.": "u1f333",
    "A rose is blooming.": "u1f339",
    "A small house.": "u1f3e0",
    "A church.": "u26ea",
    "A castle.": "u1f3f0",
    "A person runs.": "u1f3c3",
    "A person swims in the pool.": "u1f3ca",
}
SCENES = {  # in the order of naming
    "A dog barks while rain falls.": ("u1f415", "u1f327"),
    "Thunder rolls and a baby cries.": ("u1f329", "u1f476"),
    "A rooster crows as a bell rings.": ("u1f413", "u1f514"),
    "A helicopter flies over the sea.": ("u1f681", "u1f30a"),
    "Birds sing, and a fire crackles.": ("u1f426", "u1f525"),
    "Footsteps followed by a sneeze.": ("u1f463", "u1f927"),
    "A siren wails and then an engine starts.": ("u1f6a8", "u1f697"),
    "Together with the wind, a chainsaw can be heard.": ("u1f32c", "u1fa9a"),
    "After a clock ticks, water drips.": ("u23f0", "u1f4a7"),
    "A cat meows while the moon shines.": ("u1f408", "u1f319"),
}
CORNER = 9 / 16  # of the width, as painter_data.compose lays scenes out
CELL, BENEATH = 132, 44  # pixels


class Album:
    """All the emoji, to hold drawings against."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where the folder has no pictures."""
        files = sorted(folder.glob("*.png"))
        if not files:
            raise FileNotFoundError(f"no *.png in {folder}; expected the Noto Emoji")
        self.codes = [file.stem.removeprefix("emoji_") for file in files]
        self._known = np.stack([descriptor(Image.open(file)) for file in files])
        self._colours = {code: colours(Image.open(file)) for code, file in zip(self.codes, files, strict=True)}

    def nearest(self, image: Image.Image) -> str:
        """The code of the emoji that the picture is most like."""
        return self.codes[int((self._known @ descriptor(image)).argmax())]

    def likeness(self, drawing: Image.Image, codes: Sequence[str]) -> float:
        """Correlation, −1 to 1, with the emoji of a code; of two codes the mean of ground and sky."""
        places = [self.codes.index(code) for code in codes]
        shown = self.parts(drawing, len(codes))
        return float(
            np.mean([self._known[place] @ descriptor(part) for place, part in zip(places, shown, strict=True)])
        )

    def colour_error(self, drawing: Image.Image, code: str) -> float:
        """Of a drawing of that emoji, in levels."""
        return float(np.abs(colours(drawing) - self._colours[code]).mean())

    def found(self, drawing: Image.Image, parts: int) -> tuple[str, ...]:
        """The code of the whole drawing (`parts` 1), or those of the ground and the sky (2)."""
        return tuple(self.nearest(part) for part in self.parts(drawing, parts))

    def parts(self, drawing: Image.Image, parts: int) -> tuple[Image.Image, ...]:
        """The whole drawing (`parts` 1), or what shows the ground and what shows the sky (2)."""
        if parts == 1:
            return (drawing,)
        size, part = drawing.width, round(drawing.width * CORNER)
        boxes = ((0, size - part, part, size), (size - part, 0, size, part))
        return tuple(drawing.crop(box) for box in boxes)


def small(image: Image.Image) -> np.ndarray:
    """(32, 32, 3) float32, in levels, of a picture on white."""
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return np.asarray(white.convert("RGB").resize((32, 32), Image.Resampling.LANCZOS), np.float32)


def descriptor(image: Image.Image) -> np.ndarray:
    """(3072,) unit vector of a picture."""
    ink = 255 - small(image)
    ink -= ink.mean()
    return (ink / max(float(np.linalg.norm(ink)), 1e-6)).ravel()


def colours(image: Image.Image) -> np.ndarray:
    """(32, 32, 2): R − G and B − G."""
    pixels = small(image)
    return pixels[..., ::2] - pixels[..., 1:2]


Told = tuple[str, tuple[str, ...]]  # a sentence, and the codes of what is to be drawn


def kinds_told(seeds: int) -> list[list[Told]]:
    """For each seed, a sentence of each kind of sound; another one for another seed."""
    return [
        [
            (
                KINDS[kind].sentences[(seed + number) % len(KINDS[kind].sentences)],
                layout(*codes) if codes[1:] else codes,
            )
            for number, (kind, codes) in enumerate(read_kinds().items())
        ]
        for seed in range(seeds)
    ]


def captioner_said() -> dict[str, list[Told]]:
    """By part, what the captioner that ships says: the likeliest of each kind, which the painter has learnt, and of pairs of
    kinds that it has not."""
    pictures, said, pairs = read_kinds(), read_said(), held_out_pairs()
    return {
        "said of kinds": [
            (texts[0], layout(*codes) if (codes := pictures[kinds[0]])[1:] else codes)
            for kinds, texts in said.items()
            if len(kinds) == 1
        ],
        "said of pairs": [
            (text, layout(pictures[first][0], pictures[second][0]))
            for (first, second), text in pairs[: len(pairs) // 2]
        ],
    }


def captioner_says(count: int) -> dict[str, list[Told]]:
    """By part, sentences that the painter has not learnt from: of two kinds of sound, joined as the captioner learns to, and
    of made sounds, of another seed."""
    rng = random.Random(77)
    codes = {kind: codes[0] for kind, codes in read_kinds().items()}  # the pictures that stand for kinds in twos
    named = [kind for kind in codes if KINDS[kind].category != NONE]
    pairs: list[Told] = []
    while len(pairs) < count:
        first, second = rng.sample(named, 2)
        if codes[first] != codes[second]:
            one, other = (rng.choice(KINDS[kind].sentences) for kind in (first, second))
            text = rng.choice(OWN_JOINED).format(one.rstrip("."), other[0].lower() + other[1:])
            pairs.append((text, layout(codes[first], codes[second])))
    learnt = captioner_sentences()
    heard = {
        key: [text for text in texts if text not in learnt.get(key, ())]
        for key, texts in captioner_sentences(seed=77, scenes=600).items()
    }
    parts = {"pairs of kinds": pairs}
    for part, sources in (("made, one source", 1), ("made, two sources", 2)):
        keys = [key for key, texts in heard.items() if len(key) == sources and texts]
        chosen = [rng.choice(keys) for _ in range(count)]
        parts[part] = [
            (rng.choice(heard[key]), (codes[key[0]],) if sources == 1 else layout(*(codes[kind] for kind in key)))
            for key in chosen
        ]
    return parts


def judge(part: str, told: Sequence[Sequence[Told]], painter: Painter, album: Album) -> list[tuple[str, Image.Image]]:
    """Draws the sentences of each seed, prints the wrong ones and the totals, and returns sentences with drawings."""
    drawn, right, corners, wanted = [], 0, 0, 0
    errors = []
    for seed, (sentence, codes) in track([(seed, one) for seed, some in enumerate(told) for one in some], part):
        drawing = painter.draw(sentence, seed).image
        found = album.found(drawing, len(codes))
        drawn.append((sentence, drawing))
        right += found == codes
        if len(codes) == 1:
            errors.append(album.colour_error(drawing, codes[0]))
        else:
            wanted += 2
            corners += sum(one == code for one, code in zip(found, codes, strict=True))
        if found != codes:
            print(f"  {part}, seed {seed}: {sentence} {' '.join(found)} instead of {' '.join(codes)}")
    print(f"{part}: {right} of {len(drawn)}")
    if errors:
        print(f"{part}, colour error: {np.mean(errors):.1f} levels")
    if wanted:
        print(f"{part}, corners: {corners} of {wanted}")
    return drawn


def write_sheet(drawn: Sequence[tuple[str, Image.Image]], columns: int, file: Path) -> None:
    """The drawings in rows, the sentence beneath each."""
    size = max(drawing.width for _, drawing in drawn)
    width, height = max(CELL, size + 4), size + BENEATH
    sheet = Image.new("RGB", (width * columns, height * -(-len(drawn) // columns)), "white")
    for number, (sentence, drawing) in enumerate(drawn):
        left, top = width * (number % columns), height * (number // columns)
        sheet.paste(drawing, (left + (width - drawing.width) // 2, top))
        lines = "\n".join(textwrap.wrap(sentence, width // 6)[:3])
        ImageDraw.Draw(sheet).text((left + 4, top + size + 2), lines, fill="black", font_size=10)
    sheet.quantize(255).save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--painter", default="embedded", help="folder of the pipeline; default the embedded one")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=5, help="drawings of each kind of sound")
    parser.add_argument("--concept-seeds", type=int, default=2, help="drawings of each further concept")
    parser.add_argument("--said", type=int, default=60, help="sentences of two kinds, and of made sounds")
    parser.add_argument("--parts", nargs="+", help="only these, such as: scenes 'said of pairs'")
    parser.add_argument("--sheets", type=Path, help="write kinds.png, concepts.png, scenes.png and two of pairs here")
    arguments = parser.parse_args()
    album = Album(Path(os.environ["A2I_REAL_DATA"]) / "emoji" / "png")
    painter = Painter(arguments.painter, steps=arguments.steps, guidance_scale=arguments.guidance, safety_checker=False)
    usual, concepts = ([(text, (code,)) for text, code in some.items()] for some in (USUAL, CONCEPTS))
    parts: dict[str, list[list[Told]]] = {
        "kinds": kinds_told(arguments.seeds),
        "usual": [usual] * arguments.seeds,
        "concepts": [concepts] * arguments.concept_seeds,
        "scenes": [[(sentence, layout(*codes)) for sentence, codes in SCENES.items()]],
        **{part: [told] for part, told in {**captioner_said(), **captioner_says(arguments.said)}.items()},
    }
    columns = {"kinds": 12, "concepts": 8, "scenes": 5, "pairs of kinds": 10, "said of pairs": 10}
    if unknown := set(arguments.parts or ()) - parts.keys():
        parser.error(f"got --parts {', '.join(sorted(unknown))}; expected some of: {', '.join(parts)}")
    for part in arguments.parts or parts:
        told = parts[part]
        drawn = judge(part, told, painter, album)
        if arguments.sheets and part in columns:
            arguments.sheets.mkdir(parents=True, exist_ok=True)
            shown = drawn[: len(told[0])]  # the first seed
            write_sheet(shown, columns[part], arguments.sheets / f"{part.replace(' ', '_')}.png")


if __name__ == "__main__":
    main()
