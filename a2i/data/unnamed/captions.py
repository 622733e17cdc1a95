"""Sentences for what has no name - silence, noise, and unknown sounds - and the words that name each.

The sentences are ours. Each says no more than is true of every clip of its kind.
"""

import re

SENTENCES: dict[str, tuple[str, ...]] = {
    "silence": (
        "Nothing can be heard.",
        "There is silence.",
        "The recording is silent.",
        "It is quiet.",
        "All is quiet.",
        "No sound can be heard.",
        "Nothing is heard.",
        "There is no sound.",
        "Silence, and nothing else.",
        "Everything is silent.",
        "It is quiet from beginning to end.",
        "There is only silence.",
        "A silent recording.",
    ),
    "noise": (
        "Only noise can be heard.",
        "There is nothing but noise.",
        "Noise is heard and nothing else.",
        "The recording is all noise.",
        "A continuous noise is heard.",
        "There is noise throughout.",
        "Just noise.",
        "Noise goes on without a break.",
        "The sound is plain noise.",
        "A noise goes on from beginning to end.",
        "There is constant noise.",
        "Noise fills the recording.",
        "A meaningless noise can be heard.",
    ),
    "unknown": (
        "An unknown sound is heard.",
        "A sound that is hard to name.",
        "Something can be heard, but it is not clear what.",
        "An unfamiliar sound.",
        "An unidentified sound can be heard.",
        "It is unclear what makes this sound.",
        "The source of the sound is unknown.",
        "A sound is heard that cannot be identified.",
        "Some unfamiliar sound can be heard.",
        "There is a sound, but it is hard to tell what makes it.",
        "Something unknown makes a sound.",
        "What is heard is hard to identify.",
        "It is not clear where this sound comes from.",
    ),
}

# Whole words, in lower case, that name a kind. A kind's own sentences hold one of them, other kinds' sentences none.
WORDS: dict[str, tuple[str, ...]] = {
    "silence": (
        *("silence", "silent", "silently", "quiet", "no sound"),
        *("nothing is heard", "nothing can be heard", "nothing is audible"),
    ),
    "noise": ("noise", "noises", "noisy", "static", "hiss", "hisses", "hissing"),
    "unknown": (
        *("unknown", "unfamiliar", "unidentified", "unclear", "not clear", "unrecognised", "unrecognized"),
        *("hard to name", "hard to tell", "hard to identify", "cannot be identified", "cannot be named"),
    ),
}
_NAMED = {kind: re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE) for kind, words in WORDS.items()}


def unnamed_kinds(caption: str) -> set[str]:
    """Which of "silence", "noise" and "unknown" a caption names by one of `WORDS`."""
    return {kind for kind, words in _NAMED.items() if words.search(caption)}
