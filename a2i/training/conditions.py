"""The conditions that recordings are made under: rooms, noise, distance, narrow bands, codecs, overdriven microphones.

A recording of the training data is clean, near, and of one rate; what people drop on a captioner is not.
"""

import io

import numpy as np
import soundfile
import soxr

from a2i.bounds import number

RATES = (8_000, 11_025, 16_000, 16_000, 16_000, 22_050, 32_000)  # Hz, of devices and sites; 16 kHz is the commonest
TELEPHONE = (300.0, 3_400.0)  # Hz
REVERBERATION = (0.15, 0.9)  # seconds in which an echo falls by 60 dB
NOISE = (5.0, 35.0)  # dB that the sound is louder than the noise
SLOPES = (0.0, 1.0, 2.0)  # of the noise's power over frequency, as 1/f^slope: white, pink, brown
OVERDRIVE = (3.0, 18.0)  # dB beyond full scale
CODECS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))


class RecordingConditions:
    """Changes a clip as other places, devices and sites would, each with a probability of its own."""

    def __init__(
        self,
        room: float = 0.2,
        noise: float = 0.25,
        band: float = 0.35,
        telephone: float = 0.04,
        codec: float = 0.12,
        overdrive: float = 0.05,
    ) -> None:
        """Set up.

        Args:
            room: probability of an echo, as of a room or from far away.
            noise: of noise in the background, from white to brown.
            band: of a low rate, which leaves out high frequencies.
            telephone: of a telephone's band.
            codec: of a low bit rate, MP3 or Ogg Vorbis.
            overdrive: of a level beyond full scale, clipped.

        Raises:
            ValueError: a probability is out of range.
        """
        self.probabilities = {
            **{"room": room, "noise": noise, "band": band},
            **{"telephone": telephone, "codec": codec, "overdrive": overdrive},
        }
        for name, value in self.probabilities.items():
            number(name, value, 0, most=1)

    def __call__(self, waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        """(samples,) float32 in [-1, 1] at `rate` Hz → (samples,) float32 in [-1, 1]."""
        changes = {
            **{"room": _room, "noise": _noise, "overdrive": _overdrive},
            **{"band": _band, "telephone": _telephone, "codec": _codec},
        }
        drawn = {name for name, value in self.probabilities.items() if rng.random() < value}
        length = len(waveform)
        for name, change in changes.items():  # in the order of a recording's way: room, microphone, device
            if name in drawn:
                waveform = _fitted(change(waveform, rate, rng), length)
        return np.clip(waveform, -1.0, 1.0).astype(np.float32, copy=False)


def _fitted(waveform: np.ndarray, length: int) -> np.ndarray:
    """Cut, or filled up with silence: resampling rounds lengths."""
    return np.pad(waveform[:length], (0, max(length - len(waveform), 0)))


def _power(waveform: np.ndarray) -> float:
    return float(np.mean(np.square(waveform), dtype=np.float64))


def _room(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """An echo of decaying noise (Polack's model of a room), from as loud as the sound itself to 20 dB softer."""
    from scipy.signal import oaconvolve

    seconds = rng.uniform(*REVERBERATION)
    time = np.arange(int(seconds * rate)) / rate
    echo = rng.standard_normal(len(time), dtype=np.float32) * np.exp(-np.log(1e3) / seconds * time).astype(np.float32)
    echo *= np.sqrt(10 ** (rng.uniform(-20, 0) / 10) / max(float(np.square(echo).sum()), 1e-9))
    wet: np.ndarray = waveform + oaconvolve(waveform, echo)[: len(waveform)]
    return wet / max(float(np.abs(wet).max(initial=0.0)), 1.0)


def _noise(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    from scipy import fft

    count = fft.next_fast_len(len(waveform), real=True)
    spectrum = fft.rfft(rng.standard_normal(count, dtype=np.float32))
    frequencies = np.maximum(fft.rfftfreq(count, 1 / rate), 50.0).astype(np.float32)
    noise = fft.irfft(spectrum * frequencies ** np.float32(-rng.choice(SLOPES) / 2), count)[: len(waveform)]
    ratio = 10 ** (-rng.uniform(*NOISE) / 10)
    mixed: np.ndarray = waveform + noise * np.sqrt(ratio * _power(waveform) / max(_power(noise), 1e-20))
    return mixed


def _overdrive(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-4)
    return np.clip(waveform * (10 ** (rng.uniform(*OVERDRIVE) / 20) / peak), -1.0, 1.0)


def _band(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    if not (lower := [other for other in RATES if other < rate]):
        return waveform
    narrow = int(rng.choice(lower))
    there = soxr.resample(waveform.astype(np.float32), rate, narrow, quality="MQ")
    back: np.ndarray = soxr.resample(there, narrow, rate, quality="MQ")
    return back


def _telephone(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    band = butter(4, TELEPHONE, "bandpass", fs=rate, output="sos")
    filtered: np.ndarray = sosfilt(band, waveform)
    return filtered


def _codec(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    name, subtype = CODECS[int(rng.integers(len(CODECS)))]
    file = io.BytesIO()
    soundfile.write(
        file, np.clip(waveform, -1, 1), rate, format=name, subtype=subtype, compression_level=rng.uniform(0.6, 0.95)
    )
    file.seek(0)
    decoded: np.ndarray = soundfile.read(file, dtype="float32")[0]
    return decoded
