"""Storyboard → `captions.vtt` and `captions.srt`: what is heard, as sound descriptions for the deaf and hard of hearing.

The form is that of broadcasters. Sources, and what is taken from each:

- DCMP Captioning Key, "Sound Effects and Music": a description stands in square brackets and begins in lower case; of a sound
  that goes on, a later caption says that it continues.
- Netflix, "Timed Text Style Guide": at most 42 characters a line and 2 lines, one line where it fits; at most 7 seconds on
  the screen.
- BBC, "Subtitle Guidelines": 160 to 180 words a minute. What two lines hold, about 14 words, is read in 5.3 seconds by that.
- W3C, "WebVTT: The Web Video Text Tracks Format". SubRip has no standard; this is what FFmpeg and players read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from a2i.storyboard import Scene, Storyboard
from a2i.whole import write_text

VTT, SRT = "captions.vtt", "captions.srt"
LINE = 42  # characters; of lines there are two at most
LONGEST = 7.0  # seconds on the screen
# None of the sources says when a sound that goes on is named again. A minute: long enough not to tire, and nobody who joins,
# or looked away, waits longer.
AGAIN = 60.0  # seconds
# Before these a line breaks better than elsewhere (Netflix: before conjunctions and prepositions, after punctuation).
JOINTS = frozenset(
    {"and", "or", "but", "while", "as", "then", "when", "with", "without", "in", "on", "at", "by", "from", "into", "onto",
     "near", "over", "under", "through", "behind", "to", "of", "for"}
)  # fmt: skip
LOOK_ALIKE = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")", "\\": "/"})


@dataclass(frozen=True)
class Cue:
    """Lines that stand on the screen for a while.

    Attributes:
        start: seconds from the recording's beginning.
        end: seconds from the recording's beginning, at least a millisecond later.
        lines: one or two of at most `LINE` characters.
    """

    start: float
    end: float
    lines: tuple[str, ...]


def write_subtitles(storyboard: Storyboard, folder: Path) -> tuple[Path, Path]:
    """Write the scenes' captions as WebVTT and SubRip, UTF-8 without a byte order mark.

    Returns:
        the files `captions.vtt` and `captions.srt`.

    Raises:
        OSError: they can't be written.
    """
    shown = cues(storyboard)
    write_text(folder / VTT, as_vtt(shown))
    write_text(folder / SRT, as_srt(shown))
    return folder / VTT, folder / SRT


def cues(storyboard: Storyboard) -> list[Cue]:
    """The sound descriptions, in order and without overlap.

    One stands where its scene begins, for 7 seconds: nothing else is to be read, and slow readers have time. It ends with the
    scene if that is shorter. In a long scene it comes again every minute, unless the scene ends within half a minute. A
    caption that two lines can't hold is several cues, one after the other.
    """
    return [cue for scene in storyboard.scenes for cue in _of_scene(scene)]


def as_vtt(shown: list[Cue]) -> str:
    """Cues → text of a WebVTT file."""
    blocks = [f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{vtt_text(cue)}\n" for cue in shown]
    return "\n".join(["WEBVTT\n", *blocks])


def as_srt(shown: list[Cue]) -> str:
    """Cues → text of a SubRip file."""
    blocks = (
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{srt_text(cue)}\n"
        for number, cue in enumerate(shown, 1)
    )
    return "\n".join(blocks)


def vtt_text(cue: Cue) -> str:
    """A cue's lines as WebVTT writes them: what begins a tag or an entity, or ends an arrow, is an entity."""
    return "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def srt_text(cue: Cue) -> str:
    """A cue's lines, with what players of SubRip would take for tags (`<b>`, `{\\an8}`) or times made harmless.

    SubRip knows no escapes: brackets that look alike take the place of theirs.
    """
    return "\n".join(cue.lines).translate(LOOK_ALIKE).replace("--›", "→")


def _of_scene(scene: Scene) -> Iterator[Cue]:
    text = description(scene.caption)
    if not text:
        return
    begin = scene.start
    yield from _in_turn(_pieces(text), begin, scene.end)
    while scene.end - (begin := begin + AGAIN) >= AGAIN / 2:
        yield from _in_turn(_pieces(f"continues: {text}"), begin, min(scene.end, begin + AGAIN))


def _in_turn(pieces: list[tuple[str, ...]], start: float, end: float) -> Iterator[Cue]:
    """One cue after the other. Where they have no time for `LONGEST` each, they share what there is by their words."""
    lengths = [sum(len(line.split()) for line in piece) for piece in pieces]
    each = [min(LONGEST, (end - start) * length / sum(lengths)) for length in lengths]
    for lines, seconds in zip(pieces, each, strict=True):
        yield Cue(start, start + seconds, lines)
        start += seconds


def description(caption: str) -> str:
    """A caption as a sound description without its brackets: in one line, from lower case, without the full stop.

    A first word of which more than the first letter is upper case, such as TV, stays as it is, as does I.
    """
    text = " ".join("".join(each if each.isprintable() else " " for each in caption).split())
    text = text.translate(str.maketrans("[]", "()"))
    text = text if text.endswith("..") else text.removesuffix(".")
    first = text.split(" ", 1)[0]
    return text if first[1:] != first[1:].lower() or first == "I" else text[:1].lower() + text[1:]


def _pieces(text: str) -> list[tuple[str, ...]]:
    """Lines of each cue: as few cues as hold the text, each in its own brackets."""
    words = [part for word in text.split() for part in _parts(word)]
    pieces: list[tuple[str, ...]] = []
    begin = 0
    for end in range(1, len(words) + 1):
        if _lines(words[begin:end]) is None:
            pieces.append(_lines(words[begin : end - 1]) or ())
            begin = end - 1
    return [*pieces, _lines(words[begin:]) or ()]


def _parts(word: str) -> list[str]:
    """A word that no line holds, as in languages that write without spaces, is cut."""
    return [word[begin : begin + LINE - 2] for begin in range(0, len(word), LINE - 2)]


def _lines(words: list[str]) -> tuple[str, ...] | None:
    """Words in brackets as one line, or two that break where it reads best; None if they don't fit."""
    whole = f"[{' '.join(words)}]"
    if len(whole) <= LINE:
        return (whole,)
    best, least = None, math.inf
    for place in range(1, len(words)):
        upper, lower = f"[{' '.join(words[:place])}", f"{' '.join(words[place:])}]"
        joint = words[place - 1][-1] in ",;:." or words[place].lower() in JOINTS
        worse = abs(len(upper) - len(lower)) + (0 if joint else LINE / 2)
        if max(len(upper), len(lower)) <= LINE and worse < least:
            best, least = (upper, lower), worse
    return best


def _time(seconds: float, point: str) -> str:
    """Seconds → hours, minutes, seconds and milliseconds."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"
