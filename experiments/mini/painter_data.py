"""What the mini painter learns from: concepts (an emoji and the words for it), the kinds of sound that the captioner names,
captions of one or two of either, and a tokenizer.

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
from typing import NamedTuple

import numpy as np
import torch
from captioner_says import read_said
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import CLIPTokenizer

from a2i.data.esc10_captions import LABELS, SENTENCES
from a2i.data.foley.phrases import WORDS as SOURCE_WORDS
from a2i.data.foley.recipe import FoleySettings, captions_of, scene_of
from a2i.data.kinds import KINDS, NONE, named_in

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# Things of the sky, which scenes of two show in the upper right corner.
SKY_CODES = """
2600 2601 2604 26a1 26c5 26c8 2708 2728 2744 2b50 1f300 1f301 1f304 1f305 1f307 1f308 1f30c 1f30d 1f311 1f312 1f313
1f314 1f315 1f316 1f317 1f318 1f319 1f31a 1f31b 1f31c 1f31d 1f31e 1f31f 1f320 1f324 1f325 1f326 1f327 1f328 1f329
1f32a 1f32b 1f32c 1f386 1f387 1f388 1f409 1f41d 1f426 1f47c 1f4ab 1f54a 1f680 1f681 1f6e9 1f6eb 1f6ec 1f6f0 1f6f8
1f985 1f987 1f989 1f98b 1f99c 1f99f 1f9da 1fa81 1fa82 1fa90 1fab0
"""
SKY = frozenset(f"u{code}" for code in SKY_CODES.split())
# Of what captions are, in shares: a concept, a kind of sound, two concepts, two kinds.
ONE, ONE_KIND, TWO, TWO_KINDS = 0.30, 0.26, 0.20, 0.24
BARE_WORDS = 0.15  # of captions of a kind: no sentence, but one of its words
HELD_OUT = 120  # pairs that the captioner was told, and that are not learnt from: half to judge by, half to choose by
SAID = 0.5  # of captions of kinds: what the captioner that ships says of them, word for word
OWN_SENTENCES = 0.7  # of captions of two kinds: in the captioner's words throughout
OWN_CLAUSES = 0.3  # of the clauses about kinds in other joined captions
JOINED_NOUNS = 0.35  # of the captions of two
CONCEPTS_FILE = Path(__file__).with_name("painter_concepts.tsv")
KINDS_FILE = Path(__file__).with_name("painter_kinds.tsv")
TAILS = (
    "in the distance", "in the background", "nearby", "outside", "loudly", "softly", "again and again", "repeatedly",
    "continuously", "several times", "at a steady pace", "far away", "close to the microphone", "and then stops",
    "for a while", "at night", "early in the morning", "inside a large room", "slowly", "very fast",
)  # fmt: skip
OPENINGS = (
    "", "", "", "", "we hear ", "there is ", "the sound of ", "a recording of ", "the noise of ", "a picture of ",
)  # fmt: skip
# Captions of two, in the order of naming: of clauses ("a dog barks") and of nouns ("a dog", "a dog barking").
JOINED = (
    "{} and {}", "{} and {}", "{} while {}", "{} while {}", "{} as {}", "{}, {}", "{} with {}", "{} and then {}",
    "{} followed by {}", "{} over {}", "{}, then {}", "while {}, {}", "as {}, {}", "first {}, then {}",
    "{} before {}", "{}, and after that {}", "{} and at the same time {}", "after {}, {}",
)  # fmt: skip
OWN_JOINED = ("{} and {}", "{} while {}", "{}, and {}", "{} as {}")  # as the captioner's training joins its captions
NOUNS_JOINED = (
    "{} and {}", "{} with {}", "{} followed by {}", "{} over {}", "together with {}, {}", "after {}, {}",
    "{} in front of {}", "{} next to {}", "{} beside {}", "{} near {}", "{} and {} can be heard", "the sound of {} and {}",
    "{}, with {} in the background", "{} along with {}", "together with {}, {} can be heard", "{} mixed with {}",
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

    @property
    def code(self) -> str:
        """The picture's name without ``emoji_`` and ``.png``."""
        return self.file.removeprefix("emoji_").removesuffix(".png")


class Caption(NamedTuple):
    """A text and the numbers of the concepts that it shows: the ground, or the only one, and the sky, if there are two.

    `of_kinds`: its words are those for kinds of sound.
    """

    text: str
    ground: int
    sky: int | None
    of_kinds: bool = False


def layout(first: str, second: str) -> tuple[str, str]:
    """Ground and sky of two codes in the order of naming: a thing of the sky goes there unless both are such."""
    return (second, first) if first in SKY and second not in SKY else (first, second)


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


def bare(noun: str) -> str:
    """A noun phrase of the table without marks and article."""
    noun = noun.lstrip("+?")
    article, _, rest = noun.partition(" ")
    return rest if article in ("a", "an", "the") else noun


def plain(concept: Concept) -> str:
    """The concept's first noun that can stand alone, or its first phrase."""
    return next((noun.lstrip("+") for noun in concept.nouns if "?" not in noun), None) or concept.phrases[0]


def clause(concept: Concept, rng: random.Random) -> str:
    """One way to name the concept: a noun, a noun with a verb, or a whole phrase; no capital and no full stop."""
    noun = rng.choice(concept.nouns) if concept.nouns else ""
    if concept.phrases and (not noun or rng.random() < 0.25):
        return rng.choice(concept.phrases)
    marks, noun = noun[: len(noun) - len(noun.lstrip("+?"))], noun.lstrip("+?")
    plural, vague = "+" in marks, "?" in marks
    name = bare(noun)
    if rng.random() < 0.15 and noun.startswith(("a ", "an ")):
        noun = f"the {name}"
    if not concept.verbs or (not vague and rng.random() < 0.25):
        return rng.choice((noun, name, f"{rng.choice(OPENINGS)}{noun}"))
    base, gerund = rng.choice(concept.verbs)
    now = finite(base, plural)
    forms = (
        f"{noun} {now}", f"{noun} {now}", f"{noun} {'are' if plural else 'is'} {gerund}",
        f"{rng.choice(OPENINGS)}{noun} {gerund}", f"{name} {gerund}", f"{noun} can be heard {gerund}",
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


def noun_phrase(concept: Concept, rng: random.Random) -> str:
    """The concept as a noun, at times with a gerund; a whole phrase where it has no noun."""
    if not concept.nouns:
        return rng.choice(concept.phrases)
    noun = rng.choice(concept.nouns)
    if concept.verbs and ("?" in noun or rng.random() < 0.3):
        noun += f" {rng.choice(concept.verbs)[1]}"
    return noun.lstrip("+?")


def read_kinds(path: Path = KINDS_FILE) -> dict[str, tuple[str, ...]]:
    """Each kind of sound, with the codes of its picture or of its two; the first stands for it where two kinds are drawn.

    Raises ValueError where the rows are not those of `a2i.data.kinds`, or one has more than two pictures.
    """
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    kinds = {kind: tuple(codes.split()) for kind, codes in rows}
    if kinds.keys() != KINDS.keys():
        raise ValueError(f"{path}: expected a row for each kind of sound; amiss: {sorted(kinds.keys() ^ KINDS.keys())}")
    if wrong := [kind for kind, codes in kinds.items() if len(codes) not in (1, 2)]:
        raise ValueError(f"{path}: expected one or two pictures of {wrong}")
    return kinds


@cache
def captioner_sentences(seed: int = 0, scenes: int = 4000) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What the captioner learns to say, by kind or by two kinds in the order of naming."""
    said = {(name,): dict.fromkeys(kind.sentences) for name, kind in KINDS.items()}
    for recorded, sentences in SENTENCES.items():
        said[LABELS[recorded],].update(dict.fromkeys(sentences))
    settings = FoleySettings(seed=seed)
    for index in range(scenes):
        sources = set(scene_of(settings, "train", index).sources)
        for text in captions_of(settings, "train", index):
            first = first_named(text) or ""
            if any(first in KINDS[kind].sort_of for kind in named_in(text)):
                continue  # footsteps on gravel have a picture of their own
            said.setdefault((first, *(sources - {first})), {})[text] = None
    return {key: tuple(texts) for key, texts in said.items()}


def held_out_pairs() -> list[tuple[tuple[str, str], str]]:
    """Pairs of kinds of different pictures, and what the captioner says of them, that the painter does not learn from."""
    pictures = read_kinds()
    pairs = [(kinds[0], kinds[1], texts[0]) for kinds, texts in read_said().items() if len(kinds) == 2]
    told = [((one, other), text) for one, other, text in pairs if pictures[one][0] != pictures[other][0]]
    return told[:HELD_OUT]


class Captions:
    """Writes captions of a concept table, and of those kinds of sound whose pictures are in it."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        """Raises ValueError for fewer than two concepts, of which scenes can't be made."""
        if len(concepts) < 2:
            raise ValueError(f"got {len(concepts)} concepts; expected at least two, for scenes of two")
        self.concepts, self.weights = concepts, [concept.weight for concept in concepts]
        self._numbers = {concept.code: number for number, concept in enumerate(concepts)}
        self.kinds = {kind: codes for kind, codes in read_kinds().items() if self._numbers.keys() >= set(codes)}
        self.sentences = {k: texts for k, texts in captioner_sentences().items() if self.kinds.keys() >= set(k)}
        self.said = {kinds: texts for kinds, texts in read_said().items() if self.kinds.keys() >= set(kinds)}
        held_out = {text for _, text in held_out_pairs()}
        self._said_pairs = [
            (kinds[0], kinds[1])
            for kinds, texts in self.said.items()
            if len(kinds) == 2 and self.kinds[kinds[0]][0] != self.kinds[kinds[1]][0] and held_out.isdisjoint(texts)
        ]
        # A word of two kinds, or of another picture, does not tell what to draw.
        others = {bare(noun) for concept in concepts for noun in (*concept.nouns, *concept.phrases)}
        self.words = {
            kind: [word for word in KINDS[kind].words[:4] if named_in(word) == {kind} and word not in others]
            for kind in self.kinds
        }
        self._heard = [kind for kind in self.kinds if KINDS[kind].category != NONE]
        named = {self.kinds[kind][0] for kind in self._heard}
        unnamed = {codes[0] for codes in self.kinds.values()} - named
        self._paired_weights = [0 if concept.code in unnamed else concept.weight for concept in concepts]

    def numbers(self, first: str, second: str | None = None) -> tuple[int, int | None]:
        """Ground and sky of a kind, or of two in the order of naming, each of which its first picture stands for."""
        codes = self.kinds[first] if second is None else (self.kinds[first][0], self.kinds[second][0])
        if len(codes) == 1:
            return self._numbers[codes[0]], None
        ground, sky = layout(*codes)
        return self._numbers[ground], self._numbers[sky]

    def _layout(self, first: int, second: int) -> tuple[int, int]:
        ground, sky = layout(self.concepts[first].code, self.concepts[second].code)
        return self._numbers[ground], self._numbers[sky]

    def any_pair(self, rng: random.Random) -> tuple[int, int]:
        """Ground and sky of two different concepts, by their weights."""
        first, second = rng.choices(range(len(self.concepts)), self._paired_weights, k=2)
        return self._layout(first, second) if first != second else self.any_pair(rng)

    def two_kinds(self, rng: random.Random) -> tuple[str, str]:
        """Two kinds of which different pictures stand, at times such as are made together."""
        together = [key for key in self.sentences if len(key) == 2]
        if together and rng.random() < 0.1:
            first, second = rng.choice(together)
        else:
            first, second = rng.choices(self._heard, k=2)
        return (first, second) if self.kinds[first][0] != self.kinds[second][0] else self.two_kinds(rng)

    def draw(
        self, rng: random.Random, pool: Sequence[tuple[int, int]] = (), kinds: Sequence[tuple[str, str]] = ()
    ) -> Caption:
        """A caption of any sort; two concepts are taken from the pool and two kinds from `kinds`, if there are such."""
        sort = rng.choices(("one", "one kind", "two", "two kinds"), (ONE, ONE_KIND, TWO, TWO_KINDS))[0]
        if sort == "one kind" and self.kinds:
            kind = rng.choice(list(self.kinds))
            return Caption(self.of_kind(kind, rng), *self.numbers(kind), of_kinds=True)
        if sort.startswith("one"):
            number = rng.choices(range(len(self.concepts)), self.weights)[0]
            return Caption(_as_sentence(clause(self.concepts[number], rng), rng), number, None)
        if sort == "two kinds" and len(self._heard) > 1:
            if self._said_pairs and rng.random() < SAID and not kinds:
                first, second = rng.choice(self._said_pairs)
                text = rng.choice(self.said[first, second])
            else:
                first, second = rng.choice(kinds) if kinds else self.two_kinds(rng)
                text = self.join_kinds(first, second, rng)
            ground, sky = self.numbers(first, second)
            assert sky is not None
            return Caption(text, ground, sky, of_kinds=True)
        pair = rng.choice(pool) if pool else self.any_pair(rng)
        return Caption(self.join(*pair, rng), *pair)

    def familiar(self, caption: Caption) -> str:
        """The same picture in words of the concept table: the caption itself, unless it is about kinds of sound.

        Always the same words: the mean of what many wordings mean to a UNet is less than each of them.
        """
        if not caption.of_kinds:
            return caption.text
        shown = [self.concepts[number] for number in (caption.ground, caption.sky) if number is not None]
        text = " and ".join(plain(concept) for concept in shown)
        return text[0].upper() + text[1:] + "."

    def of_kind(self, kind: str, rng: random.Random) -> str:
        """A sentence that the captioner has for the kind, or one of its words."""
        if (kind,) in self.said and rng.random() < SAID:
            return rng.choice(self.said[kind,])
        if self.words[kind] and rng.random() < BARE_WORDS:
            return _as_sentence(rng.choice(self.words[kind]), rng)
        text = rng.choice(self.sentences[kind,])
        return text if rng.random() < 0.8 else text[0].lower() + text[1:].rstrip(".")

    def join(self, ground: int, sky: int, rng: random.Random) -> str:
        """A caption made of two parts, in an order of naming that gives this ground and this sky."""
        order = [ground, sky]
        if self._layout(sky, ground) == (ground, sky) and rng.random() < 0.5:
            order.reverse()
        if rng.random() < JOINED_NOUNS:
            parts = [noun_phrase(self.concepts[number], rng) for number in order]
            return _as_sentence(rng.choice(NOUNS_JOINED).format(*parts), rng)
        return _as_sentence(rng.choice(JOINED).format(*(clause(self.concepts[number], rng) for number in order)), rng)

    def join_kinds(self, first: str, second: str, rng: random.Random) -> str:
        """The captioner's sentence of both, where it has one, or two of its sentences joined."""
        if (first, second) in self.sentences and rng.random() < 0.3:
            return rng.choice(self.sentences[first, second])
        own = rng.random() < OWN_SENTENCES
        if self.numbers(second, first) == self.numbers(first, second) and rng.random() < 0.5:
            first, second = second, first
        parts = []
        for kind in (first, second):
            concept = self.concepts[self._numbers[self.kinds[kind][0]]]
            if own or rng.random() < OWN_CLAUSES:
                text = rng.choice(self.sentences[kind,]).rstrip(".")
                parts.append(text[0].lower() + text[1:])
            else:
                parts.append(clause(concept, rng))
        text = rng.choice(OWN_JOINED if own else JOINED).format(*parts)
        return text[0].upper() + text[1:] + "." if own else _as_sentence(text, rng)


def _as_sentence(text: str, rng: random.Random) -> str:
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


def compose(ground: torch.Tensor, sky: torch.Tensor) -> torch.Tensor:
    """Scenes of two pictures (B, 3, S, S) on white: `ground` in the lower left corner, `sky` in the upper right one.

    Each has 9/16 of the width. Where the two overlap, in the middle, their colours are multiplied, as of two glazes.
    """
    size = ground.shape[-1]
    small = size * 9 // 16
    scene = torch.ones_like(ground)
    for picture, (top, left) in ((ground, (size - small, 0)), (sky, (0, size - small))):
        reduced = functional.interpolate(picture, (small, small), mode="bilinear", antialias=True)
        part = scene[..., top : top + small, left : left + small]
        part.copy_((part + 1) * (reduced + 1) / 2 - 1)
    return scene


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
    rng, writer = random.Random(seed), Captions(concepts)
    made = [writer.draw(rng).text for _ in range(captions)]
    return made + list(names) * 3 + WORDS.split() * 10
