"""Captions with four beams: ours in batches against a loop of `generate`, a clip at a time.

With `--base 1` AST-base and GPT-2 base with random weights, against the reference's model with the same weights; else the
embedded small captioner, against itself a clip at a time. `--tiny 1` tries the former with tiny models.
"""

import random

from measure import alternate, arguments, clips, models, report

from a2i import audio
from a2i.captioner import Captioner
from a2i.groups import batches_by_length, read_groups
from a2i.places import MINI_CAPTIONER

TOKENS = 16  # of the longest caption of the base model, whose random weights know no end


def main() -> None:
    given = arguments(__doc__, clips=64, batch=8, base=0, tiny=0)
    paths = [clip.path for clip in clips(given.clips, given.work)]
    random.Random(0).shuffle(paths)
    if given.base or given.tiny:
        from epoch import build

        captioner, plain = (model.eval() for model in build(str(models(given.work, not given.tiny))))
        changes = {"num_beams": 4, "num_candidates": 1, "max_tokens": TOKENS - 1}
    else:
        captioner, plain, changes = Captioner.load(MINI_CAPTIONER), None, {"num_beams": 4, "num_candidates": 1}

    def reference() -> list[str]:
        if plain is not None:
            return [plain.caption(path, 4, TOKENS) for path in paths]
        return [captioner.caption([audio.load(path)], **changes)[0][0].caption for path in paths]

    def ours() -> list[str]:
        found = []
        for group in read_groups(paths, 4 * given.batch):
            for batch in batches_by_length(group, given.batch):
                captions = captioner.caption([each.waveform for each in batch], **changes)
                for each, candidates in zip(batch, captions, strict=True):
                    each.candidates = candidates
            found += [each.candidates[0].caption for each in group]
        return found

    theirs, mine, wanted, found = alternate(reference, ours, given.repeats)
    differing = sum(one != other for one, other in zip(wanted, found, strict=True))
    equal = {"difference": differing, "tolerance": 0, "of": "captions that are not the same to the letter"}
    name = "captions_base" if plain else "captions_mini"
    report(name, f"captions for {given.clips} clips of 15 s, four beams, seconds", given, theirs, mine, equal)


if __name__ == "__main__":
    main()
