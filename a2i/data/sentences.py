"""Sentences that people wrote about sounds, with the kinds of sound that each names: text to learn to write from.

A sentence is kept if it names one to three kinds of `a2i.data.kinds` and hints at no other source, so that a captioner
that learns to say it of these kinds learns to say nothing that is not there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from a2i.data.esc10_captions import LABELS, kinds_named
from a2i.data.folder import read_table
from a2i.data.kinds import CATEGORIES, KINDS, PEOPLE, Mention, mentions, words_of
from a2i.data.unnamed.captions import unnamed_kinds

MIN_WORDS, MAX_WORDS, MAX_KINDS = 2, 20, 3

# Verbs of sound that several kinds share: beside one of their other subjects they name no source of their own.
_ENDING = r"(?:s|es|e|ed|ing|y|ies|ied|(?:b|d|g|m|n|p|v)(?:ing|ed))?"
_VERBS = re.compile(
    r"(?:chirp|tweet|honk|toot|squeal|squeak|creak|whistl|ring|chim|jingl|tinkl|beep|crackl|bleat|splash|splatter|pour|drip"
    r"|drop|gurgl|bubbl|bark|cr|cry|crow|spray|rub|scrap|hit|bang|thump|thud|knock|clank|clang|tick|clap|shout|yell|scream"
    r"|talk|speak|breath|bit|explod|fir|boom|idl|rev|trickl|peck|shatter|clink|walk|step|hammer|drill|flush|wind|growl|snarl"
    r"|grunt|groan|moan|sniff|sob|wheez|flap|yelp|squawk|slam|saw|chatter|chop)" + _ENDING
)
_OWN = frozenset({PEOPLE, "crowd", "music", "fire", "insects"})  # categories that are never a more general word
_VAGUE = frozenset(CATEGORIES) - _OWN | {PEOPLE}
# What people do with their mouths: of the words for people, these alone name a sound.
_VOCAL = re.compile(r"burp|belch|fart|hiccup|sniff|groan|moan|grunt|sob|wheez|throat|vomit|human|person makes")

# What is a source and no kind, and what says that the writer guesses, compares or doesn't know: no sentence with it is kept.
_OTHER_WORDS = """
popcorn steam gas trimmer trimmers weed weeds
like likely might maybe may possibly perhaps seems seem seemingly sounding resembling resembles similar imitates
imitating imitate mimics mimicking or unknown unclear something someone's various different other others else thing stuff
items item source weird strange odd no not without fake simulated
recording recorded recorder recordings audio microphone mic video clip tape film movie cartoon tv television
effect effects soundtrack phone telephone telephones phones cellphone ringtone game games toy toys camera's
frying fry fries fried sizzling sizzle sizzles grease oil basketball basketballs ball balls pong tennis bowling pinball
balloon balloons ice slot robot robotic dial fish zombie laser feedback echo echoes echoing lighter cigarette
"""
_OTHER = frozenset(_OTHER_WORDS.split())
# Words of sound that any source may make: a clause that has one and names no kind hints at a source without a name.
_SOUND = re.compile(
    r"(buzz|hum|click|clack|rattl|tap|whir|whoosh|rumbl|rustl|clatter|screech|crunch|scratch|vibrat|hiss|pop|burst|crash|roar"
    r"|whin|crack|snap|shuffl|squish|ping|zoom|swish|swoosh|clunk|plop|slap|smack|tear|rip|rasp|rattle|chug|sputter|drone|dron"
    r"|slid|shak|wail|blar|flipp|dragg|plunk|clink|whimper|howl|hoot|scrap|toll|noise|sound)" + _ENDING
)
_CLAUSE = re.compile(
    r"[,;]|\b(?:and|with|while|whilst|as|then|followed by|followed|before|after|along with|over|amid|when|until|plus)\b"
)
_META = re.compile(
    r"^(?:(?:an?|the) )?(?:audio |sound |field )?(?:recordings?|audio|clip|soundscape) (?:of|with) ", re.IGNORECASE
)
_THEN = frozenset({"then", "followed", "before", "afterwards", "afterward", "later", "finally", "eventually", "after"})
_AT_ONCE = frozenset({"as", "while", "whilst", "with", "amid", "over", "when", "during", "meanwhile"})


@dataclass(frozen=True)
class Sentence:
    """A sentence and what it names.

    Attributes:
        text: the sentence.
        kinds: the kinds that it names, in the order in which they sound where `then`, else in which they stand.
        then: whether it says that they sound one after another.
    """

    text: str
    kinds: tuple[str, ...]
    then: bool = False


def read_sentences(tables: Iterable[str | Path]) -> list[Sentence]:
    """The sentences of caption tables, as Clotho's and AudioCaps', that name kinds and nothing else; each once.

    Raises:
        FileNotFoundError: a table is missing.
        ValueError: a table can't be read, or has no column ``caption`` or ``caption_1`` ….
    """
    texts: list[str] = []
    for table in map(Path, tables):
        rows = read_table(table, ())
        columns = [column for column in (rows[0][1] if rows else ()) if re.fullmatch(r"caption(_\d+)?", column)]
        if not columns:
            raise ValueError(f"{table} has no column 'caption' or 'caption_1' …; expected a table of captions")
        texts += [row[column] for _, row in rows for column in columns]
    return named(texts)


def named(texts: Sequence[str]) -> list[Sentence]:
    """Those of the texts that name one to three kinds and nothing else, cleaned; each once, in their order."""
    found: dict[tuple[str, ...], Sentence] = {}
    for text in texts:
        sentence = read(text)
        if sentence:
            found.setdefault(tuple(words_of(sentence.text)), sentence)
    return list(found.values())


def read(text: str) -> Sentence | None:
    """A text as a sentence with the kinds that it names; None if it names none, too many, or hints at another source."""
    text = clean(text)
    words = words_of(text)
    if not MIN_WORDS <= len(words) <= MAX_WORDS or _OTHER & set(words) or unnamed_kinds(text):
        return None
    if any(_SOUND.fullmatch(word) for clause in _nameless(text) for word in words_of(clause)):
        return None
    sources = _sources(mentions(text))
    kinds = {kind for _, kind in sources}
    if not 1 <= len(kinds) <= MAX_KINDS:
        return None
    esc10 = {LABELS[kind] for kind in kinds_named(text)}
    if esc10 & kinds and not esc10 <= kinds:  # what an ESC-10 kind is called with names no other of them
        return None
    return _ordered(text, words, sources)


def _nameless(text: str) -> list[str]:
    """The clauses that name no kind; who does it is none."""
    return [clause for clause in _CLAUSE.split(text) if not any(map(_is_source, mentions(clause)))]


def _is_source(mention: Mention) -> bool:
    """Whether it is more than a word for who does it."""
    return mention.kinds != {PEOPLE} or bool(_VOCAL.search(mention.phrase))


def clean(text: str) -> str:
    """A text with single blanks, a capital letter and a full stop, without "a recording of"."""
    text = " ".join(text.replace("’", "'").strip(" \t\n\"'").split())
    text = _META.sub("", text).rstrip(" .,;:!").replace(" ,", ",")
    return text[:1].upper() + text[1:] + "." if text else ""


def _sources(found: list[Mention]) -> list[tuple[int, str]]:
    """Where each source is named: the position of the word and the kind, without what only says more about another."""
    meant = [(mention, _meant(mention)) for mention in found if _is_source(mention)]
    kinds = {kind for _, kind in meant}
    if any("footsteps" in KINDS[kind].sort_of for kind in kinds) and "footsteps" not in kinds:
        return []  # sand and snow that nobody is said to walk on
    if "fire" in kinds and all(mention.phrase.startswith("crackl") for mention, kind in meant if kind == "fire"):
        return []  # what crackles may be paper
    return [
        (mention.start, kind)
        for mention, kind in meant
        if not any(_says_more(mention, kind, other) for other in kinds - {kind})
    ]


def _meant(mention: Mention) -> str:
    """The kind that a phrase means: the special one if it has several words, else the general one, yet no category."""
    kinds = sorted(mention.kinds - set(CATEGORIES)) or sorted(mention.kinds)
    special = [kind for kind in kinds if KINDS[kind].sort_of & mention.kinds]
    general = [kind for kind in kinds if kind not in special]
    return (special or kinds)[0] if " " in mention.phrase or not general else general[0]


def _says_more(mention: Mention, kind: str, other: str) -> bool:
    """Whether a phrase for one kind, beside one for the other, only says more about the other."""
    if kind in KINDS[other].sort_of:
        return True
    return kind in KINDS[other].kin and bool(
        (kind in CATEGORIES and kind not in _OWN) or _VERBS.fullmatch(mention.phrase)
    )


def _ordered(text: str, words: list[str], sources: list[tuple[int, str]]) -> Sentence | None:
    """The sentence with its kinds in the order of time, if it says one; None where it is not clear which."""
    kinds = tuple(dict.fromkeys(kind for _, kind in sources))
    marks = [start for start, word in enumerate(words) if word in _THEN]
    if len(kinds) == 1 or not marks:
        return Sentence(text, kinds)
    starts = [[start for start, kind in sources if kind == named] for named in kinds]
    border = marks[0] or starts[1][0]  # after the thunder, rain falls
    if len(kinds) > 2 or len(marks) > 1 or not max(starts[0]) < border <= min(starts[1]):
        return None
    if _AT_ONCE & set(words[max(starts[0]) : min(starts[1])]):
        return None
    backwards = words[border] == "after" and words[border + 1 : border + 2] != ["that"]
    return Sentence(text, kinds[::-1] if backwards else kinds, then=True)


class Sentences:
    """What a decoder learns to write from: keywords, and how someone says that they are heard.

    Args:
        corpora: caption tables, see `read_sentences`; [] for our own sentences alone.
    """

    def __init__(self, corpora: Sequence[str | Path] = ()) -> None:
        self.corpora = tuple(corpora)

    def pairs(self) -> list[tuple[frozenset[str], str]]:
        """The kinds of each sentence, and the sentence: our own first, then those of the corpora.

        Raises:
            FileNotFoundError: a table is missing.
            ValueError: a table can't be read.
        """
        own = [(frozenset({name}), text) for name, kind in KINDS.items() for text in kind.sentences]
        others = [(frozenset(each.kinds), each.text) for each in read_sentences(self.corpora)]
        # Of what is only like an animal nobody should say that it eats.
        return [*own, *(pair for pair in others if not pair[0] & _VAGUE)]
