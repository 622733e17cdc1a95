"""Have this version's programs write what they write, small, into a folder that is called like the version.

    python tests/released/make.py

Once for each release, before it; what is there already stays.
"""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

import a2i

FOLDER = Path(__file__).parent / a2i.__version__
TRAINING = [
    *(
        "experiment=mini",
        "data=folder",
        "data.root=sounds",
        "model.encoder.channels=[2,4]",
        "model.tokenizer.vocab_size=300",
    ),
    *(
        "model.decoder.config={n_embd:8,n_layer:1,n_head:1,n_positions:60}",
        "model.keywords=false",
        "training.label_loss=0",
    ),
    *("training.labels_first=0", "trainer=cpu", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"),
    *(
        "trainer.enable_model_summary=false",
        "loader.num_workers=0",
        "bertscore=null",
        "logger=none",
        "hydra.run.dir=run",
    ),
]
CAPTIONS = ("A dog barks twice.", "Rain falls on a roof.")


def program(name: str, *arguments: str) -> None:
    """Run a program of a2i here.

    Raises:
        CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, "-m", f"a2i.{name}", *arguments], check=True)


def main() -> None:
    """Make the folder."""
    (FOLDER / "sounds").mkdir(parents=True)
    with contextlib.chdir(FOLDER):
        rows = ["file_name,split,caption_1"]
        for index, (caption, split) in enumerate(zip(CAPTIONS, ("train", "val"), strict=True)):
            noise = np.random.default_rng(index).uniform(-0.3, 0.3, 4_000)
            soundfile.write(f"sounds/{index}.wav", noise, 16_000)
            rows.append(f"{index}.wav,{split},{caption}")
        Path("sounds/captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        program("train", *TRAINING)
        shutil.move("run/captioner", "captioner")
        for path in sorted(Path("run").rglob("*"), reverse=True):
            kept = path.name in ("config.yaml", "overrides.yaml", "last.ckpt") or path.name == "checkpoints"
            if not kept:
                path.rmdir() if path.is_dir() else path.unlink()
        program("prepare", "data=folder", "data.root=sounds", "cache=cache", "workers=0")
        program("infer", "audio=sounds", "captioner=captioner", "image=none", "out=results", "device=cpu")
        program(
            "evaluate", "captioner=captioner", "data=folder", "data.root=sounds", "split=val",
            "out=evaluation", "metrics=[rouge_l]",
            "bootstrap_samples=10", "report.sounds=false", "device=cpu",
        )  # fmt: skip
        for name in ("evaluation/report.html", "evaluation/submission.csv", "cache/.lock"):
            Path(name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
