"""What the captioner that ships says of each kind of sound, and of pairs of them: the painter learns these very sentences.

    python experiments/mini/captioner_says.py [--pairs 1500] [--out experiments/mini/painter_said.tsv]

Its decoder attends to nothing but the keywords that are told, so that of one kind it can say no other sentences than these: the
candidates of its search. Of the pairs only some are asked, drawn from a seed.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.progress import track

from a2i.captioner import Captioner
from a2i.captioner.bridge import KeywordBridge
from a2i.data.kinds import KINDS, NONE, mentions
from a2i.paths import MINI_CAPTIONER

BATCH = 32
SAID_FILE = Path(__file__).with_name("painter_said.tsv")


def read_said(path: Path = SAID_FILE) -> dict[tuple[str, ...], tuple[str, ...]]:
    """What the captioner that ships says, by the kind or the two kinds that it is told; of two, if the sentence names both, and
    in the order of naming, which is not that of telling."""
    said: dict[tuple[str, ...], dict[str, None]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            told, _, sentence = line.partition("\t")
            kinds = told.split(", ")
            if len(kinds) == 2:
                named = [kind for mention in mentions(sentence) for kind in kinds if kind in mention.kinds]
                kinds = list(dict.fromkeys(named))
                if len(kinds) < 2:
                    continue
            said.setdefault(tuple(kinds), {})[sentence] = None
    return {kinds: tuple(sentences) for kinds, sentences in said.items()}


@torch.no_grad()
def said(captioner: Captioner, told: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The captions, best first, for each set of keywords that are told as equally likely."""
    bridge, decoding, tokenizer = captioner.bridge, captioner.decoding, captioner.tokenizer
    assert isinstance(bridge, KeywordBridge)
    decoding = decoding.with_changes(num_candidates=decoding.num_beams)
    for first in range(0, len(told), BATCH):
        some = told[first : first + BATCH]
        shares = torch.zeros(len(some), len(bridge.names) + 1)
        for row, keywords in enumerate(some):
            shares[row, [bridge.names.index(keyword) for keyword in keywords]] = 1 / len(keywords)
        mask = torch.ones(len(some), 1, dtype=torch.bool)
        ids = captioner.decoder.generate(
            bridge.embedding(shares)[:, None], mask, tokenizer.bos_id, tokenizer.eos_id, decoding
        )
        captions = [tokenizer.decode(row) for row in ids.tolist()]
        count = decoding.num_candidates
        yield from (list(dict.fromkeys(captions[row * count : (row + 1) * count])) for row in range(len(some)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=SAID_FILE)
    arguments = parser.parse_args()
    captioner, rng = Captioner.load(MINI_CAPTIONER), random.Random(0)
    heard = [kind for kind in KINDS if KINDS[kind].category != NONE]
    pairs = dict.fromkeys(tuple(rng.sample(heard, 2)) for _ in range(arguments.pairs))
    told = [*((kind,) for kind in KINDS), *pairs]
    lines = ["# kinds told\twhat the captioner then says, the likeliest first; captioner_says.py writes this"]
    for keywords, captions in zip(track(told, "captions"), said(captioner, told), strict=True):
        lines += [f"{', '.join(keywords)}\t{caption}" for caption in captions[: None if len(keywords) == 1 else 1]]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
