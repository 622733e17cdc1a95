"""Pictures by the embedded painter: ours in batches against a loop of the plain pipeline at the same settings.

What fewer steps save at an equal look: `steps.py`.
"""

import numpy as np
import torch
import yaml
from diffusers import DiffusionPipeline
from measure import alternate, arguments, device, report
from reference import picture

from a2i.diffusion import Painter
from a2i.paths import CONF, MINI_PAINTER

THINGS = ("A dog", "A bird", "Rain", "A clock", "A bell", "A train", "Fire", "A ship")


def main() -> None:
    given = arguments(__doc__, pictures=16, batch=8, gpu=0)
    settings = yaml.safe_load((CONF / "image" / "mini.yaml").read_text(encoding="utf-8"))
    painter = Painter(**{key: value for key, value in settings.items() if key != "_target_"}, device=device(given.gpu))
    plain = DiffusionPipeline.from_pretrained(MINI_PAINTER, dtype=torch.float32).to(device(given.gpu))
    plain.set_progress_bar_config(disable=True)
    captions = [f"{THINGS[index % len(THINGS)]} is heard." for index in range(given.pictures)]
    same = {"num_inference_steps": painter.steps, "guidance_scale": painter.guidance_scale}
    same |= {"width": painter.width, "height": painter.height, "negative_prompt": painter.negative_prompt}

    def reference() -> list[np.ndarray]:
        prompts = [painter.prompt_template.replace("{caption}", caption) for caption in captions]
        return [np.asarray(picture(plain, prompt, seed, **same)) for seed, prompt in enumerate(prompts)]

    def ours() -> list[np.ndarray]:
        drawn = []
        for first in range(0, len(captions), given.batch):
            some = captions[first : first + given.batch]
            drawn += painter.draw_batch(some, range(first, first + len(some)))
        return [np.asarray(each.image) for each in drawn]

    theirs, mine, wanted, found = alternate(reference, ours, given.repeats)
    difference = max(int(abs(one.astype(int) - other).max()) for one, other in zip(wanted, found, strict=True))
    equal = {"difference": difference, "tolerance": 2, "of": "every value of 0 to 255"}
    report("pictures", f"{given.pictures} pictures of the embedded painter, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
