"""From a cold start to the first picture, with the embedded models: `a2i.infer` against importing three libraries.

The imports are what any script with these models pays before its first line; diffusers and transformers load lazily, so that
they are asked for the classes that such a script uses.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import alternate, arguments, clips, report

BARE = "import torch, transformers, diffusers"
USED = "import torch; from transformers import ASTModel, GPT2LMHeadModel; from diffusers import StableDiffusionPipeline"


def main() -> None:
    given = arguments(__doc__, lazy=1)
    (clip,) = clips(1, given.work)
    code = BARE if given.lazy else USED

    def ours() -> bool:
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "a2i.infer", f"audio={clip.path}", f"out={out}", "device=cpu"]
            subprocess.run(command, check=True, capture_output=True)
            row = json.loads((Path(out) / "results.jsonl").read_text())
            return row["error"] is None and Path(row["image"]).stat().st_size > 0

    def reference() -> None:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    reference(), ours()  # the files are in memory then, for both
    theirs, mine, _, drawn = alternate(reference, ours, given.repeats)
    equal = {"difference": int(not drawn), "tolerance": 0, "of": "whether there is a picture", "imports": code}
    report("cold_start", "from a cold start, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
