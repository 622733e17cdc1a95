"""What the mini painter learns from: concepts (an emoji and the words for it), captions made of them, and a tokenizer.

The pictures are Noto Emoji images (Apache 2.0), found through a folder with ``png/`` and ``names.tsv``
(columns file, codepoint, name). The words are our own.
"""

import csv
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from a2i.data.esc10_captions import SENTENCES
from a2i.data.foley.phrases import WORDS as SOURCE_WORDS
from a2i.data.foley.recipe import Settings, captions_of

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# The emoji of what the small captioner knows: its sentences have to come out as drawings too.
HEARD = {
    "u1f415": ("Dog bark",),
    "u1f327": ("Rain", "rain"),
    "u1f30a": ("Sea waves", "waves"),
    "u1f476": ("Baby cry",),
    "u23f0": ("Clock tick", "clock"),
    "u1f927": ("Person sneeze",),
    "u1f681": ("Helicopter",),
    "u1fa9a": ("Chainsaw",),
    "u1f413": ("Rooster",),
    "u1f525": ("Fire crackling",),
    "u1f32c": ("wind",),
    "u1f514": ("bell",),
    "u1f6a8": ("siren",),
    "u1f426": ("birdsong",),
    "u1f697": ("engine",),
    "u1f463": ("footsteps",),
    "u1f329": ("thunder",),
    "u1f997": ("crickets",),
    "u1f4a7": ("drops",),
}
CONCEPTS_FILE = Path(__file__).with_name("painter_concepts.tsv")
TAILS = (
    "in the distance", "in the background", "nearby", "outside", "loudly", "softly", "again and again", "repeatedly",
    "continuously", "several times", "at a steady pace", "far away", "close to the microphone", "and then stops",
    "for a while", "at night", "early in the morning", "inside a large room", "slowly", "very fast",
)  # fmt: skip
OPENINGS = (
    "", "", "", "", "we hear ", "there is ", "the sound of ", "a recording of ", "the noise of ", "a picture of ",
)  # fmt: skip
WORDS = """
the of and a to in is it that was for on are with as at be this have from or one had by word but not what all were
when your can said there use an each which she do how their if will up other about out many then them these so some
her would make like him into time has look two more write go see number no way could people my than first water been
call who oil its now find long down day did get come made may part over new sound take only little work know place
year live me back give most very after thing our just name good sentence man think say great where help through much
before line right too mean old any same tell boy follow came want show also around form three small set put end does
another well large must big even such because turn here why ask went men read need land different home us move try
kind hand picture again change off play spell air away animal house point page letter mother answer found study
still learn should world high every near add food between own below country plant last school father keep tree never
start city earth eye light thought head under story saw left few while along might close something seem next hard
open example begin life always those both paper together got group often run important until children side feet car
mile night walk white sea began grow took river four carry state once book hear stop without second later miss idea
enough eat face watch far really almost let above girl sometimes mountain cut young talk soon list song being leave
family machine metal wooden plastic glass floor ground street traffic noise hum static steady constant low pitch
pitched volume louder quieter fades faint room hall echo echoes someone somebody moving passing walking talking
crowd background foreground distance object objects surface speed electronic musical instrument rhythm rustling
banging clicking squeaking creaking rattling scraping rumbling whirring buzzing humming splashing dripping flowing
"""  # common English words, so that the tokenizer has them whole


@dataclass(frozen=True)
class Concept:
    """One drawable thing: picture file, noun phrases, verbs (base, gerund), whole phrases that mean it, weight."""

    file: str
    nouns: tuple[str, ...]
    verbs: tuple[tuple[str, str], ...]
    phrases: tuple[str, ...]
    weight: int = 1


def read_concepts(path: Path = CONCEPTS_FILE) -> list[Concept]:
    """The concept table: tab-separated picture, nouns, verbs (``bark/barking``) and phrases, each list split at commas.

    A noun phrase carries its article; ``+`` in front marks a plural and ``?`` one too vague to stand without its verb.
    ``*`` in front of a picture has it shown twice as often. Raises ValueError with the line where a row is wrong.
    """
    concepts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 4:
            raise ValueError(f"{path}:{number}: got {len(cells)} columns, expected picture, nouns, verbs, phrases")
        nouns, verbs, phrases = (tuple(x.strip() for x in cell.split(",") if x.strip()) for cell in cells[1:])
        if not all(verb.count("/") == 1 for verb in verbs):
            raise ValueError(f"{path}:{number}: got verbs {verbs}, expected each as bark/barking")
        pairs = tuple((verb.partition("/")[0], verb.partition("/")[2]) for verb in verbs)
        weight, code = (2 if cells[0].startswith("*") else 1), cells[0].strip(" *")
        concepts.append(Concept(f"emoji_{code}.png", nouns, pairs, phrases, weight))
    return concepts


def finite(base: str, plural: bool) -> str:
    """``wash ashore`` → ``washes ashore``: the first word in the present tense, third person singular or plural."""
    word, _, rest = base.partition(" ")
    if word == "be":
        word = "are" if plural else "is"
    elif plural:
        return base
    elif word.endswith(("s", "sh", "ch", "x", "z", "o")):
        word += "es"
    elif word.endswith("y") and word[-2] not in "aeiou":
        word = word[:-1] + "ies"
    else:
        word += "s"
    return f"{word} {rest}".strip()


def clause(concept: Concept, rng: random.Random) -> str:
    """One way to name the concept: a noun, a noun with a verb, or a whole phrase; no capital and no full stop."""
    noun = rng.choice(concept.nouns) if concept.nouns else ""
    if concept.phrases and (not noun or rng.random() < 0.25):
        return rng.choice(concept.phrases)
    marks, noun = noun[: len(noun) - len(noun.lstrip("+?"))], noun.lstrip("+?")
    plural, vague = "+" in marks, "?" in marks
    article, _, bare = noun.partition(" ")
    bare = bare if article in ("a", "an", "the") else noun
    if rng.random() < 0.15 and article in ("a", "an"):
        noun = f"the {bare}"
    if not concept.verbs or (not vague and rng.random() < 0.25):
        return rng.choice((noun, bare, f"{rng.choice(OPENINGS)}{noun}"))
    base, gerund = rng.choice(concept.verbs)
    now = finite(base, plural)
    forms = (
        f"{noun} {now}", f"{noun} {now}", f"{noun} {'are' if plural else 'is'} {gerund}",
        f"{rng.choice(OPENINGS)}{noun} {gerund}", f"{bare} {gerund}", f"{noun} can be heard {gerund}",
        f"{noun} that {now}", f"{noun} {'start' if plural else 'starts'} {gerund}",
    )  # fmt: skip
    text = rng.choice(forms)
    return f"{text} {rng.choice(TAILS)}" if rng.random() < 0.35 else text


def first_named(sentence: str) -> str | None:
    """The made source that a sentence names first; None where it names none."""
    for word in re.findall(r"[a-z]+", sentence.lower()):
        for source, words in SOURCE_WORDS.items():
            if word in words:
                return source
    return None


@cache
def captioner_sentences(seed: int = 0, scenes: int = 2000) -> dict[str, tuple[str, ...]]:
    """What the small captioner learns to say, by the emoji that draws it: of two sources the first named is drawn."""
    settings = Settings(seed=seed)
    made = [text for index in range(scenes) for text in captions_of(settings, "train", index)]
    by_source: dict[str, list[str]] = {kind: list(sentences) for kind, sentences in SENTENCES.items()}
    for text in made:
        by_source.setdefault(first_named(text) or "", []).append(text)
    return {
        f"emoji_{code}.png": tuple(text for name in names for text in by_source[name]) for code, names in HEARD.items()
    }


def caption(concepts: Sequence[Concept], index: int, rng: random.Random) -> str:
    """A caption for ``concepts[index]``; now and then another concept follows, for the first named is the one drawn."""
    sentences = captioner_sentences().get(concepts[index].file)
    if sentences and rng.random() < 0.4:
        return rng.choice(sentences)
    text = clause(concepts[index], rng)
    if rng.random() < 0.15:
        joint = rng.choice((" and ", " while ", " as ", ", ", " with ", " and then ", " followed by "))
        text += joint + clause(concepts[rng.randrange(len(concepts))], rng)
    return text[0].upper() + text[1:] + "." if rng.random() < 0.5 else text


def load_picture(path: Path, size: int) -> torch.Tensor:
    """An RGBA picture laid on white, (3, size, size) float32 in [-1, 1]. Raises FileNotFoundError if there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}: expected a folder with png/ and names.tsv of Noto Emoji in --data")
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    pixels = np.asarray(white.convert("RGB").resize((size, size), Image.Resampling.LANCZOS), np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1).contiguous()


def read_names(data: Path) -> dict[str, str]:
    """File name → name of each picture in ``data/names.tsv``."""
    path = data / "names.tsv"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: expected a folder with png/ and names.tsv of Noto Emoji in --data")
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["name"] for row in csv.DictReader(file, delimiter="\t")}


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> CLIPTokenizer:
    """A CLIP byte-level BPE of at most `vocab_size` tokens. Every byte is a token, so any text can be said.

    As in CLIP (Radford et al. 2021): 256 bytes, 256 bytes that end a word, merges, start and end of text;
    padding is the end-of-text token.
    """
    blank = CLIPTokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = blank._tokenizer.normalizer, blank._tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 258, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    with_merges = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    single = alphabet + [f"{letter}</w>" for letter in alphabet]
    tokens = single + [token for token, _ in with_merges if token not in set(single)] + [BOS, EOS]
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=max_length)


def tokenizer_texts(concepts: Sequence[Concept], names: Iterable[str], seed: int, captions: int = 20000) -> list[str]:
    """What the tokenizer is trained on: made captions, the names of all the pictures, and common English words."""
    rng = random.Random(seed)
    made = [caption(concepts, rng.randrange(len(concepts)), rng) for _ in range(captions)]
    return made + list(names) * 3 + WORDS.split() * 10
