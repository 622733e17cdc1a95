"""Sentences for the ten kinds of ESC-10, which has no captions, and the words that name each kind.

The sentences are ours. Each names its source, no other kind's, and nothing that the label does not tell: neither how
loud, how many nor where.
"""

import random
import re

# Whole words, in lower case, that name a kind. A kind's own sentences hold one of them, other kinds' sentences none.
SOURCE_WORDS: dict[str, tuple[str, ...]] = {
    "Dog bark": ("dog", "dogs", "bark", "barks", "barked", "barking", "puppy", "hound"),
    "Rain": ("rain", "rains", "raining", "rainy", "rainfall", "raindrop", "raindrops", "rainwater"),
    "Sea waves": ("sea", "seas", "ocean", "wave", "waves", "surf"),
    "Baby cry": ("baby", "babies", "infant", "infants", "cry", "cries", "cried", "crying"),
    "Clock tick": ("clock", "clocks", "tick", "ticks", "ticked", "ticking"),
    "Person sneeze": ("sneeze", "sneezes", "sneezed", "sneezing"),
    "Helicopter": ("helicopter", "helicopters", "chopper", "choppers"),
    "Chainsaw": ("chainsaw", "chainsaws", "chain saw", "chain saws"),
    "Rooster": ("rooster", "roosters", "cockerel", "cockerels", "crow", "crows", "crowed", "crowing"),
    "Fire crackling": ("fire", "fires", "crackle", "crackles", "crackled", "crackling"),
}

# One word for each kind; what is made as well has the name that it has there.
LABELS: dict[str, str] = {
    "Dog bark": "dog",
    "Rain": "rain",
    "Sea waves": "waves",
    "Baby cry": "baby",
    "Clock tick": "clock",
    "Person sneeze": "sneeze",
    "Helicopter": "helicopter",
    "Chainsaw": "chainsaw",
    "Rooster": "rooster",
    "Fire crackling": "fire",
}

SENTENCES: dict[str, tuple[str, ...]] = {
    "Dog bark": (
        "A dog barks.",
        "A dog is barking.",
        "The dog barks.",
        "A barking dog can be heard.",
        "The bark of a dog is heard.",
        "The sound of a dog barking.",
        "There is a dog barking.",
        "A dog lets out a bark.",
        "A dog gives a bark.",
        "Someone's dog is barking.",
        "The barking of a dog.",
        "A dog can be heard as it barks.",
        "Barking comes from a dog.",
        "An animal, a dog, is barking.",
    ),
    "Rain": (
        "Rain falls.",
        "Rain is falling.",
        "The rain is coming down.",
        "It is raining.",
        "Rain pours down from the sky.",
        "The sound of falling rain.",
        "Falling rain can be heard.",
        "Raindrops are falling.",
        "Rain comes down and drops land.",
        "There is rain falling.",
        "Water falls from the sky as rain.",
        "The patter of rain is heard.",
        "Drops of rain are pattering.",
        "Rainfall can be heard.",
    ),
    "Sea waves": (
        "Waves break on the shore.",
        "Sea waves are breaking.",
        "Ocean waves roll in.",
        "The waves of the sea wash ashore.",
        "The sound of ocean waves.",
        "Waves are rolling onto the beach.",
        "The sea washes against the shore.",
        "Waves can be heard at the ocean.",
        "Water moves in waves by the sea.",
        "The ocean is washing onto the shore.",
        "There are waves breaking on a beach.",
        "Waves of the ocean come and go.",
        "The sea rolls in and out.",
        "The wash of sea waves is heard.",
    ),
    "Baby cry": (
        "A baby cries.",
        "A baby is crying.",
        "The baby is crying.",
        "A crying baby can be heard.",
        "The cry of a baby is heard.",
        "The sound of a baby crying.",
        "There is a baby crying.",
        "An infant is crying.",
        "An infant cries.",
        "A baby lets out a cry.",
        "A young child, a baby, is crying.",
        "The crying of an infant is heard.",
        "A baby wails and cries.",
        "Cries come from a baby.",
    ),
    "Clock tick": (
        "A clock ticks.",
        "A clock is ticking.",
        "The clock is ticking.",
        "A ticking clock can be heard.",
        "The tick of a clock is heard.",
        "The sound of a clock ticking.",
        "There is a clock ticking.",
        "A clock goes on ticking.",
        "The ticking of a clock.",
        "The hands of a clock tick.",
        "A clock ticks as time goes by.",
        "Ticking comes from a clock.",
        "The mechanism of a clock is ticking.",
        "A clock marks the seconds with its ticks.",
    ),
    "Person sneeze": (
        "A person sneezes.",
        "Someone sneezes.",
        "Someone is sneezing.",
        "A person is sneezing.",
        "A sneeze can be heard.",
        "The sneeze of a person is heard.",
        "The sound of someone sneezing.",
        "There is a person sneezing.",
        "Somebody sneezes.",
        "Somebody lets out a sneeze.",
        "A human sneeze is heard.",
        "A person can be heard sneezing.",
        "The sneezing of a person.",
        "A sneeze comes from someone.",
    ),
    "Helicopter": (
        "A helicopter flies.",
        "A helicopter is flying.",
        "The helicopter is in the air.",
        "A flying helicopter can be heard.",
        "The rotor of a helicopter is turning.",
        "The sound of a helicopter.",
        "There is a helicopter flying.",
        "The blades of a helicopter are whirring.",
        "A helicopter spins its rotor blades.",
        "The engine of a helicopter is running.",
        "A helicopter whirs with its blades turning.",
        "Whirring comes from a helicopter.",
        "The chopping of helicopter blades is heard.",
        "An aircraft, a helicopter, is running.",
    ),
    "Chainsaw": (
        "A chainsaw runs.",
        "A chainsaw is running.",
        "The chainsaw is buzzing.",
        "A running chainsaw can be heard.",
        "The buzz of a chainsaw is heard.",
        "The sound of a chainsaw.",
        "There is a chainsaw running.",
        "Someone is using a chainsaw.",
        "A person operates a chainsaw.",
        "The motor of a chainsaw is running.",
        "A chainsaw buzzes as it works.",
        "A chainsaw is being used.",
        "Buzzing comes from a chainsaw.",
        "A power tool, a chainsaw, is at work.",
    ),
    "Rooster": (
        "A rooster crows.",
        "A rooster is crowing.",
        "The rooster crows.",
        "A crowing rooster can be heard.",
        "The crow of a rooster is heard.",
        "The sound of a rooster crowing.",
        "There is a rooster crowing.",
        "A rooster lets out a crow.",
        "The crowing of a rooster.",
        "A rooster gives its crow.",
        "A bird, a rooster, is crowing.",
        "A rooster can be heard as it crows.",
        "A farm animal, a rooster, crows.",
        "Crowing comes from a rooster.",
    ),
    "Fire crackling": (
        "A fire crackles.",
        "A fire is crackling.",
        "The fire crackles as it burns.",
        "A crackling fire can be heard.",
        "The crackle of a fire is heard.",
        "The sound of a fire crackling.",
        "There is a fire crackling.",
        "A fire burns and crackles.",
        "A burning fire is crackling.",
        "The crackling of a fire.",
        "Flames crackle in a fire.",
        "Crackling comes from a fire.",
        "A fire pops and crackles.",
        "Something burns in a crackling fire.",
    ),
}

_NAMED = {kind: re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE) for kind, words in SOURCE_WORDS.items()}


def kinds_named(caption: str) -> set[str]:
    """The kinds of ESC-10 that a caption names by one of `SOURCE_WORDS`; right where that is the clip's kind alone."""
    return {kind for kind, words in _NAMED.items() if words.search(caption)}


def captions_for(kind: str, file_name: str, number: int, seed: int = 0) -> tuple[str, ...]:
    """`number` different sentences for a clip: always the same for the same kind, file name and seed.

    Raises:
        ValueError: the kind is unknown, or more sentences are asked for than there are.
    """
    if kind not in SENTENCES:
        raise ValueError(f"unknown kind {kind!r}; expected one of {', '.join(SENTENCES)}")
    if not 1 <= number <= len(SENTENCES[kind]):
        raise ValueError(f"{number} captions a clip; expected 1 to {len(SENTENCES[kind])}")
    return tuple(random.Random(f"{seed}/{file_name}").sample(SENTENCES[kind], number))
