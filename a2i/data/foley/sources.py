"""The kinds of sound that can be made, by name."""

from a2i.data.foley.objects import bell, clock, drops, engine, footsteps, siren
from a2i.data.foley.outdoors import birdsong, crickets, rain, thunder, waves, wind
from a2i.data.foley.signals import Synth

SOURCES: dict[str, Synth] = {
    "rain": rain,
    "wind": wind,
    "waves": waves,
    "clock": clock,
    "bell": bell,
    "siren": siren,
    "birdsong": birdsong,
    "engine": engine,
    "footsteps": footsteps,
    "thunder": thunder,
    "crickets": crickets,
    "drops": drops,
}
