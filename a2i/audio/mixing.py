"""Several channels → one, with no sound lost.

The average of the channels is what most recordings need, and they get it bit for bit. But what two channels hold in
antiphase (a microphone wired the wrong way round, a "karaoke" or surround effect) averages to silence, and what one of eight
channels holds becomes 18 dB softer. So it is an average in bands of a third of an octave, with a sign and a weight for each
channel, found in the 0.8 s around:

- A channel more than 20 dB below the loudest counts for less, the less the softer it is: the only channel of eight that
  holds anything is as loud as alone.
- Where turning the channels that oppose the first of the loud ones would keep 2.5 times the power or more, they are turned.

In every other band and moment, which is to say nearly always, all weights are one over the number of channels. Signs and
weights change over the half-overlapping frames (46 ms) of a short-time Fourier transform, so there are no clicks; the weights'
sizes sum to one, so no band is louder than in its loudest channel. The frames lie at whole multiples of their step from
the file's beginning: what is mixed depends neither on the size of the blocks nor, `CONTEXT` seconds in, on where reading
began.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FRAME = 0.046  # seconds, about
AROUND = 16  # frames on each side that a frame's decision looks at
CONTEXT = 1.2  # seconds before (and after) a sample that can change what is mixed there; safely more than is needed
PIECE = 32  # frames that are transformed at once
QUIET = 0.01  # of the loudest channel's power: below it a channel counts for less
KEPT = 0.4  # of the power: where the plain average keeps less, channels are turned
LOUDEST = 1e4  # full scale is 1
AUDIBLE = 1e-8  # of the power of all bands: what is softer is left as it is


def mix(blocks: Iterable[np.ndarray], rate: int, position: int = 0) -> Iterator[np.ndarray]:
    """Mix down.

    Args:
        blocks: (samples, channels) float32 each, one after the other, all of as many channels.
        rate: Hz.
        position: of the first sample, counted from the file's beginning.

    Yields:
        (samples,) float32, in sum as many samples.
    """
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return
    if first.shape[1] == 1:
        yield first[:, 0]
        yield from (block[:, 0] for block in blocks)
        return
    size = max(32, 2 ** round(np.log2(rate * FRAME)))
    step, channels = size // 2, first.shape[1]
    mixer = _Mixer(size, channels)
    lead = position % step
    buffer, held = [np.zeros((lead, channels), np.float32)], lead
    given, total = 0, lead

    def without_lead(mixed: np.ndarray) -> np.ndarray:
        return mixed[max(lead - given, 0) : max(total - given, 0)]

    for block in chain([first], blocks):
        buffer.append(block)
        held, total = held + len(block), total + len(block)
        while held >= PIECE * step:
            joined = np.concatenate(buffer)
            buffer, held = [joined[PIECE * step :]], held - PIECE * step
            mixed = mixer.push(joined[: PIECE * step])
            yield without_lead(mixed)
            given += len(mixed)
    # Silence behind the end, for the last frames to look at.
    piece = np.concatenate([*buffer, np.zeros((PIECE * step - held, channels), np.float32)])
    while given < total:
        mixed = mixer.push(piece)
        yield without_lead(mixed)
        given, piece = given + len(mixed), np.zeros_like(piece)


class _Mixer:
    """Takes `PIECE` steps of samples at a time; gives them back mixed, a piece and a step later."""

    def __init__(self, size: int, channels: int) -> None:
        from scipy import fft  # here: the process that decodes does not mix, and need not wait for it

        self.fft = fft
        self.size, self.step, self.channels = size, size // 2, channels
        self.window = np.sin(np.pi * (np.arange(size) + 0.5) / size).astype(np.float32)
        edges = [0, 4]
        while edges[-1] < self.step + 1:
            edges.append(edges[-1] + max(4, round(0.26 * edges[-1])))
        self.edges = np.array([edge for edge in edges if edge < self.step - 1])
        self.band_of_bin = np.searchsorted(self.edges, np.arange(self.step + 1), side="right") - 1
        # Adds up the frames around each.
        self.around = np.array(
            [[float(0 <= k - i <= 2 * AROUND) for k in range(PIECE + 2 * AROUND)] for i in range(PIECE)]
        )
        self.before = np.zeros((channels, self.step), np.float32)  # the samples before the piece
        self.alike = np.zeros((AROUND, len(self.edges), channels, channels))  # of the frames before those that wait
        self.waiting: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # average, spectra, likeness of a piece
        self.tail = np.zeros(self.step, np.float32)  # second half of the last frame's correction
        self.average = np.zeros(0, np.float32)  # of the step that waits for its second frame

    def push(self, piece: np.ndarray) -> np.ndarray:
        """(samples, channels) → what is ready, (samples,)."""
        piece = np.ascontiguousarray(piece.T)
        with np.errstate(invalid="ignore", over="ignore"):
            average = piece.sum(axis=0, dtype=np.float32) / np.float32(self.channels)
        # What is no number stays where it is; what is far beyond full scale is so all the same.
        if not (piece.max() <= LOUDEST and piece.min() >= -LOUDEST):
            piece = np.clip(np.nan_to_num(piece, nan=0.0), -LOUDEST, LOUDEST)
        samples = np.concatenate([self.before, piece], axis=1)
        self.before = piece[:, -self.step :]
        frames = sliding_window_view(samples, self.size, axis=1)[:, :: self.step]
        spectra = self.fft.rfft(frames * self.window, axis=-1)  # (channels, frames, bins)
        alike = self._likeness(spectra)
        mixed = np.zeros(0, np.float32)
        if self.waiting is not None:
            average_before, spectra_before, alike_before = self.waiting
            near = np.concatenate([self.alike, alike_before, alike[:AROUND]])
            self.alike = alike_before[-AROUND:]
            around = (self.around @ near.reshape(len(near), -1)).reshape(alike_before.shape)
            mixed = self._mixed(average_before, spectra_before, around)
        self.waiting = average, spectra, alike
        return mixed

    def _likeness(self, spectra: np.ndarray) -> np.ndarray:
        """(frames, bands, channels, channels): power of each channel in each band, and of what each two have in common."""
        found = np.empty((spectra.shape[1], len(self.edges), self.channels, self.channels))
        parts = spectra.real.copy(), spectra.imag.copy()
        for one in range(self.channels):
            for two in range(one + 1):
                product = parts[0][one] * parts[0][two]
                product += parts[1][one] * parts[1][two]
                product[:, 0] = 0  # a constant is no sound
                found[:, :, one, two] = np.add.reduceat(product, self.edges, axis=1)
                found[:, :, two, one] = found[:, :, one, two]
        return found

    def _mixed(self, average: np.ndarray, spectra: np.ndarray, alike: np.ndarray) -> np.ndarray:
        change = _weights(alike) - 1 / self.channels
        correction = np.zeros(len(average), np.float32)
        if change.any():
            each = change[:, self.band_of_bin].transpose(2, 0, 1).astype(np.float32)
            halves = self.fft.irfft((spectra * each).sum(axis=0), self.size, axis=-1) * self.window
            halves = halves.reshape(PIECE, 2, self.step)
            correction[:] = halves[:, 0].reshape(-1)
            correction[self.step :] += halves[:-1, 1].reshape(-1)
            tail = halves[-1, 1]
        else:
            tail = np.zeros(self.step, np.float32)
        correction[: self.step] += self.tail
        self.tail = tail
        # A frame begins a step before its piece's samples do.
        joined = np.concatenate([self.average, average])
        self.average = joined[len(joined) - self.step :]
        mixed = joined[: len(joined) - self.step]
        return mixed + correction[len(correction) - len(mixed) :]


def _weights(alike: np.ndarray) -> np.ndarray:
    """(frames, bands, channels, channels) → (frames, bands, channels): signed, their sizes' sum is one."""
    channels = alike.shape[-1]
    power = np.diagonal(alike, axis1=-2, axis2=-1)
    top = power.max(axis=-1, keepdims=True)
    some = np.where(top > 0, top, 1.0)
    counts = np.where(top > 0, np.minimum(power / (QUIET * some), 1.0), 1.0)
    first = (power >= top / 4).argmax(axis=-1)
    opposed = np.take_along_axis(alike, first[..., None, None], axis=-2)[..., 0, :] < 0
    turned = np.where(opposed, -counts, counts)
    plain_power = np.einsum("...c,...cd,...d->...", counts, alike, counts)
    turned_power = np.einsum("...c,...cd,...d->...", turned, alike, turned)
    weights = np.where((plain_power < KEPT * turned_power)[..., None], turned, counts)
    weights = weights / counts.sum(axis=-1, keepdims=True)
    return np.where(top > AUDIBLE * top.sum(axis=1, keepdims=True), weights, 1 / channels)
