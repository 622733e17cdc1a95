"""What the published code gives for five real recordings, for `tests/test_sound_effects.py` to compare with ours.

The package pins libraries that are years old, and Essentia is no dependency of ours: make an environment of its own.

    python3.11 -m venv reference
    reference/bin/pip install essentia==2.1b6.dev1389 torch==2.11.0 tqdm
    reference/bin/pip download --no-deps aisfx==0.1.2
    reference/bin/pip install --no-deps ./aisfx-0.1.2-py2.py3-none-any.whl
    reference/bin/python experiments/world/sound_effects_reference.py REAL_DATA tests/reference/sound_effects.npz

Of each recording it writes how many frames its log-mel has, some of them, and the embedding of its first windows, each of 100
frames, 50 after the one before.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from aisfx import inference, preprocessing
from aisfx.spectrogram.spectrogram_essentia import compute_spectrogram

RECORDINGS = [
    "clotho/evaluation/Flipping Pages.wav",
    "clotho/evaluation/02-Bakken_Rollercoaster.wav",
    "esc10/001 - Dog bark/1-30226-A.ogg",
    "clotho/evaluation/01 barreau bunker original.wav",
    "esc10/007 - Helicopter/1-172649-C.ogg",
]
FRAMES = [0, 1, 2, 50, 100, 150, -3, -2, -1]
WINDOWS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of real recordings")
    parser.add_argument("out", type=Path, help="file to write")
    arguments = parser.parse_args()
    # The package loads its checkpoint as any pickle; here no more may be made of it than its numbers need.
    numbers = [
        (np.int64().__reduce__()[0], "numpy.core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        type(np.dtype("int64")),
    ]
    with torch.serialization.safe_globals(numbers):
        weights, libraries = torch.load(inference.get_path_modelWeights(), map_location="cpu", weights_only=True)
    network = inference.load_bestModel(weights, libraries, "cpu")
    counts, log_mels, embeddings = [], [], []
    for name in RECORDINGS:
        spectrum = compute_spectrogram(
            filename=str(arguments.data / name),
            sr=inference.SAMPLE_RATE,
            block_size=inference.SPEC_BLOCK_LENGTH,
            hop_size=inference.SPEC_HOP_LENGTH,
            n_mels=inference.MEL_BINS,
            f_min=inference.F_MIN,
            f_max=inference.F_MAX,
        )
        log_mel = preprocessing.spectrogram_normalize(spectrum)
        embedding = inference.model_get_embedding(log_mel, 0.5, True, network, "cpu").numpy()
        counts.append(len(log_mel))
        log_mels.append(log_mel[FRAMES])
        embeddings.append(embedding[:WINDOWS])
        print(
            f"{name}: {len(log_mel)} frames, {len(embedding)} windows, embedding {embedding.min():.3f} to {embedding.max():.3f}"
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        arguments.out,
        recordings=np.array(RECORDINGS),
        counts=np.array(counts),
        frames=np.array(FRAMES),
        log_mels=np.stack(log_mels).astype(np.float32),
        embeddings=np.stack(embeddings),
    )


if __name__ == "__main__":
    main()
