"""Where a recording's sound changes, from the states of the ear that comes with a2i.

Of all ways to cut a recording the one is taken whose scenes are most uniform, at a price for each: penalised optimal
partitioning (Jackson et al. 2005, "An algorithm for optimal partitioning of data on an interval"), with the spread of the
states around their scene's mean as the cost. Stretches of silence are scenes of their own.

The ear is always the same, whatever the captioner: the price is chosen for it, and not every captioner has states.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from a2i.captioner import Captioner
from a2i.features import SILENT, LogMel
from a2i.paths import MINI_CAPTIONER
from a2i.storyboard.settings import SceneSettings

FRAMES = 8  # of a state
CHUNK = 54  # states that are found at once, 10 s
CONTEXT = 4  # states before and behind a chunk that its first and last ones hear
NUMBERS = 128  # of a state that are kept; random projections keep distances (Johnson and Lindenstrauss 1984)


@dataclass(frozen=True)
class Stretch:
    """Some of a recording, in which the same is heard.

    Attributes:
        start: seconds from the recording's beginning.
        end: seconds from the recording's beginning.
        is_silent: whether nothing is heard.
        weight: number of states.
        state: (NUMBERS,) their mean.
    """

    start: float
    end: float
    is_silent: bool
    weight: float
    state: np.ndarray

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start


class Ear:
    """The encoder of the captioner that comes with a2i: what is heard, as a state for each 0.19 s.

    Attributes:
        rate: Hz of the waveforms that it hears.
        step: samples of a state.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        captioner = Captioner.load(MINI_CAPTIONER)
        settings = captioner.log_mel.settings
        # A clip's own level would make one of what is soft and what is loud.
        self.log_mel = LogMel(replace(settings, level=None)).to(device)
        self.encoder = captioner.encoder
        captioner.encoder.to(device)  # type: ignore[attr-defined]
        self.rate = settings.sampling_rate
        self.step = FRAMES * settings.framing.hop
        draw = np.random.default_rng(0)
        self._projection = draw.standard_normal((self.encoder.width, NUMBERS)).astype(np.float32) / NUMBERS**0.5

    def hear(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What is heard, some seconds at a time; the same however many samples there are in each block.

        Args:
            blocks: each (samples,) float32 in [-1, 1] at `rate`, together at least one sample.

        Yields:
            states (S, NUMBERS), about of length 1, and loudness (S,), dBFS. All together are at least one state; what does not
            fill one at the end of the recording has none.
        """
        held, lead, size = np.zeros(0, np.float32), 0, (CHUNK + CONTEXT) * self.step
        some: list[np.ndarray] = []
        for block in blocks:
            some.append(block)
            if len(held) + sum(map(len, some)) < lead * self.step + size + self.step:
                continue
            held, some = np.concatenate([held, *some]), []
            while len(held) >= lead * self.step + size + self.step:
                yield self._states(held[: lead * self.step + size], lead, CHUNK)
                held, lead = held[(lead + CHUNK - CONTEXT) * self.step :], CONTEXT
        held = np.concatenate([held, *some])
        states, loudness = self._states(held, lead, None)
        if len(states):
            yield states, loudness

    @torch.no_grad()
    def _states(self, samples: np.ndarray, lead: int, count: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The states of some samples, without the first `lead` ones, and no more than `count`."""
        device = self.log_mel.window.device
        waveforms = torch.from_numpy(samples)[None].to(device)
        log_mel, mask = self.log_mel(waveforms, torch.tensor([len(samples)], device=device))
        states = self.encoder(log_mel, mask)[0][0, lead:][:count].float().cpu().numpy()
        padded = np.zeros((lead + len(states)) * self.step, np.float32)
        padded[: len(samples)] = samples[: len(padded)]
        powers = padded.reshape(-1, self.step).var(axis=1)[lead:]
        # Loud or soft, the same sound has one direction.
        states /= np.maximum(np.linalg.norm(states, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return states @ self._projection, 10 * np.log10(np.maximum(powers, 1e-20))


@dataclass(frozen=True)
class Heard:
    """What an ear hears of a recording.

    Attributes:
        states: (S, NUMBERS).
        loudness: (S,), dBFS.
        step: seconds of a state.
        seconds: length of the recording.
    """

    states: np.ndarray
    loudness: np.ndarray
    step: float
    seconds: float


def hear(ear: Ear, blocks: Iterable[np.ndarray], tell: Callable[[float], None] = lambda seconds: None) -> Heard:
    """All of a recording.

    Args:
        ear: that hears it.
        blocks: of the recording, each (samples,) float32 in [-1, 1] at the ear's rate, together at least one sample.
        tell: is called with the seconds heard so far.
    """
    samples = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    heard = []
    for each in ear.hear(counted()):
        heard.append(each)
        tell(samples / ear.rate)
    states, loudness = (np.concatenate(each) for each in zip(*heard, strict=True))
    return Heard(states, loudness, ear.step / ear.rate, samples / ear.rate)


def cut(heard: Heard, settings: SceneSettings, longest: float) -> list[Stretch]:
    """The stretches of a recording: they follow each other without gaps, from 0 to its end.

    Args:
        heard: of the recording.
        settings: of the scenes.
        longest: seconds of a stretch; but silence is one, whatever its length.
    """
    shortest, most = (max(round(seconds / heard.step), 1) for seconds in (settings.shortest, longest))
    found = []
    for first, last, is_silent in _sounding(heard.loudness < SILENT, shortest):
        ends = [last]
        if not is_silent:
            ends = [first + end for end in segment(heard.states[first:last], settings.change, shortest, most)]
        found += [(start, end, is_silent) for start, end in zip([first, *ends], ends, strict=False)]
    seconds = [end * heard.step for _, end, _ in found[:-1]] + [heard.seconds]
    return [
        Stretch(begin, until, is_silent, float(end - start), heard.states[start:end].mean(axis=0))
        for (start, end, is_silent), begin, until in zip(found, [0.0, *seconds], seconds, strict=False)
    ]


def _sounding(silent: np.ndarray, shortest: int) -> list[tuple[int, int, bool]]:
    """First and last state, exclusive, of the silences that are long enough, and of what lies between them."""
    runs: list[tuple[int, int, bool]] = []
    place = 0
    for is_silent, run in groupby(silent.tolist()):
        count = len(list(run))
        is_scene = is_silent and count >= shortest
        if runs and not is_scene and not runs[-1][2]:
            runs[-1] = (runs[-1][0], place + count, False)
        else:
            runs.append((place, place + count, is_scene))
        place += count
    return runs


def segment(states: np.ndarray, price: float, shortest: int, longest: int) -> list[int]:
    """Cut a row of states so that the squared distances from the means of the segments, with a price for each, are least.

    Args:
        states: (S, D).
        price: of a segment.
        shortest: states of a segment; the only one may be shorter.
        longest: states of a segment, at least twice `shortest`.

    Returns:
        the segments' ends, exclusive, in their order; the last is S.
    """
    count = len(states)
    least, begins = np.full(count + 1, np.inf), np.zeros(count + 1, np.int64)
    least[0] = 0.0
    for base in range(0, count, longest):  # sums of what can be in one segment: of hours they would take much memory
        origin = max(base - longest, 0)
        near = states[origin : base + longest].astype(np.float64)
        near -= near.mean(axis=0)
        sums = np.concatenate([np.zeros((1, near.shape[1])), near.cumsum(axis=0)])
        squares = np.concatenate([[0.0], np.einsum("sd,sd->s", near, near).cumsum()])
        for end in range(max(base + 1, min(shortest, count)), min(base + longest, count) + 1):
            starts = np.arange(max(0, end - longest), max(end - shortest, 0) + 1)
            away = sums[end - origin] - sums[starts - origin]
            spread = (
                squares[end - origin] - squares[starts - origin] - np.einsum("sd,sd->s", away, away) / (end - starts)
            )
            totals = least[starts] + spread + price
            best = int(totals.argmin())
            least[end], begins[end] = totals[best], starts[best]
    ends = [count]
    while begins[ends[-1]]:
        ends.append(int(begins[ends[-1]]))
    return ends[::-1]


def is_alike(first: Stretch, second: Stretch, settings: SceneSettings) -> bool:
    """Whether two neighbours are better one: by the measure that parted them, which `longest` may have overruled."""
    away = first.state - second.state
    spread = first.weight * second.weight / (first.weight + second.weight) * float(away @ away)
    return first.is_silent == second.is_silent and spread <= settings.change


def together(first: Stretch, second: Stretch) -> Stretch:
    """Two neighbours as one."""
    weight = first.weight + second.weight
    state = (first.weight * first.state + second.weight * second.state) / weight
    return Stretch(first.start, second.end, first.is_silent and second.is_silent, weight, state)
