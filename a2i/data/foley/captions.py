"""Sentences about a scene, in the words and the present tense of Clotho's annotators.

A phrase may claim only what was synthesised: each carries the traits under which it is true. What a phrase says of
number, pace or distance is thus a fact. No phrase uses a word that names another source.
"""

import re

import numpy as np

from a2i.data.foley.noun_phrases import NOUNS
from a2i.data.foley.phrases import CLAUSES, WORDS
from a2i.data.foley.scenes import LARGE_ROOM, Layer, Scene

# {a} and {b} are clauses about the first and second source, {A} and {B} noun phrases.
ALONE = (
    *("{a}",) * 6,
    "the sound of {A}",
    "{A} can be heard",
    "there is the sound of {A}",
    "a recording of {A}",
    "all that can be heard is {A}",
    "{a} and nothing else is heard",
)
MIXED = (
    "{a} while {b}",
    "{a} as {b}",
    "while {b}, {a}",
    "as {b}, {a}",
    "{a} and {b}",
    "{a} and at the same time {b}",
    "{A} and {B} can be heard together",
    "{A} can be heard along with {B}",
    "the sound of {A} mixes with the sound of {B}",
    "{A} and {B} at the same time",
    "together with {B}, {A} can be heard",
)
SOFTER = ("{a} with {B} in the background", "{a} over the sound of {B}", "{A}, with {B} faintly behind it")
SEQUENCE = (
    "{a}, then {b}",
    "{a}, and then {b}",
    "first {a}, then {b}",
    "at first {a}, and after that {b}",
    "{A} followed by {B}",
    "the sound of {A} is followed by {B}",
    "{a} before {b}",
    "{b} after {a}",
    "after {A}, {b}",
    "{A} and afterwards {B}",
    "{a}, and later {b}",
    "{a} and in the end {b}",
    "the sound of {A} gives way to {B}",
)
PLACES = {"near": ("nearby", "close by"), "distant": ("in the distance", "far away", "far off")}
EVERYWHERE = {"rain", "wind"}  # of these nobody says that they are far away
ECHOES = ("with an echo", "in a large room that echoes", "in an echoing hall")
BACKGROUND_DB = 3.0  # by so much softer, and a source may be called the background


def sources_named(caption: str) -> frozenset[str]:
    """The sources that a caption names, by any of their usual words: "A bell rings" gives {"bell"}."""
    words = set(re.findall(r"[a-z]+", caption.lower()))
    return frozenset(source for source, names in WORDS.items() if words & names)


def describe(scene: Scene, rng: np.random.Generator, count: int = 5) -> tuple[str, ...]:
    """`count` different sentences about the scene, each of which names its sources and no other."""
    templates = list(_templates(scene))
    written: dict[str, None] = {}  # a set that keeps its order
    while len(written) < count:
        for template in rng.permutation(templates):
            written.setdefault(_write(str(template), scene, rng))
            if len(written) == count:
                break
    return tuple(written)


def _templates(scene: Scene) -> tuple[str, ...]:
    """The sentence patterns that are true of the scene."""
    if scene.kind == "alone":
        return ALONE
    if scene.kind == "sequence":
        return SEQUENCE
    softer = scene.layers[0].level - scene.layers[1].level > BACKGROUND_DB
    return MIXED + SOFTER if softer else MIXED


def _write(template: str, scene: Scene, rng: np.random.Generator) -> str:
    """One sentence: the pattern with a phrase for each source."""
    fields = {}
    layers = list(scene.layers)
    if scene.kind == "mixed" and template not in SOFTER and rng.random() < 0.5:
        layers.reverse()
    for letter, layer in zip("ab", layers, strict=False):
        fields[letter] = _phrase(layer, CLAUSES, rng)
        fields[letter.upper()] = _phrase(layer, NOUNS, rng)
    sentence = template.format(**fields)
    if scene.room >= LARGE_ROOM and rng.random() < 0.35:
        sentence += " " + str(rng.choice(ECHOES))
    return sentence[0].upper() + sentence[1:] + "."


def _phrase(layer: Layer, phrases: dict[str, tuple[tuple[str, str], ...]], rng: np.random.Generator) -> str:
    """A phrase that is true of the layer, at times with the place it sounds from."""
    true = [text for needs, text in phrases[layer.source] if layer.traits.issuperset(needs.split())]
    text = str(rng.choice(true))
    place = layer.traits & set(PLACES) if layer.source not in EVERYWHERE else set()
    if place and not text.endswith("*") and rng.random() < 0.3:
        text += " " + str(rng.choice(PLACES[str(*place)]))
    return text.rstrip("*")
