"""What captions begin with once their first token is gone: counted in Clotho's captions, without any model.

    python experiments/first_words/second_tokens.py GPT2_TOKENIZER CLOTHO

Prints the tables of the record and writes second_tokens.png beside it. GPT2_TOKENIZER holds GPT-2's vocab.json and merges.txt,
CLOTHO the official caption tables.
"""

import argparse
import csv
from collections import Counter, defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from a2i.captioner.cleaning import Lexicon, words
from a2i.captioner.text import CaptionTokenizer

SPLITS = ("development", "evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("clotho", type=Path)
    arguments = parser.parse_args()
    tokenizer = CaptionTokenizer.load(arguments.tokenizer)
    captions = {split: read(arguments.clotho / f"clotho_captions_{split}.csv") for split in SPLITS}
    for split, some in captions.items():
        for which, chosen in (("all five", some), ("caption_1", some[::5])):
            seconds = second_tokens(chosen, tokenizer)
            broken = sum(count for token, count in seconds.items() if is_fragment(token))
            print(
                f"{split}, {which}: {len(chosen)} captions, {broken / len(chosen):.1%} lose a part of a word", end=", "
            )
            print(f"{len(seconds)} different second tokens")
    show_fragments(captions["development"], tokenizer)
    show_whole(captions["development"], tokenizer)
    lexicon = Lexicon.of(captions["development"], tokenizer)
    show_cleaning(captions["evaluation"], tokenizer, lexicon)


def read(table: Path) -> list[str]:
    """All captions, five a clip, white space folded."""
    with table.open(encoding="utf-8", newline="") as file:
        return [" ".join(row[f"caption_{n}"].split()) for row in csv.DictReader(file) for n in range(1, 6)]


def second_tokens(captions: list[str], tokenizer: CaptionTokenizer) -> Counter[str]:
    rows = tokenizer.tokenizer(captions, add_special_tokens=False)["input_ids"]
    return Counter(tokenizer.tokenizer.decode([row[1]]) for row in rows)


def is_fragment(token: str) -> bool:
    """Whether a token goes on with a word; those that begin one begin with a space, and punctuation is none."""
    return token[0].isalnum()


def show_fragments(captions: list[str], tokenizer: CaptionTokenizer) -> None:
    """The most frequent fragments with the words that they come from, as a table and a bar chart."""
    origins: dict[str, Counter[str]] = defaultdict(Counter)
    for caption, row in zip(
        captions, tokenizer.tokenizer(captions, add_special_tokens=False)["input_ids"], strict=True
    ):
        token = tokenizer.tokenizer.decode([row[1]])
        if is_fragment(token):
            origins[token][words(caption)[0]] += 1
    ranked = sorted(origins.items(), key=lambda item: -item[1].total())
    print("\n| said first | captions | of |\n|---|---|---|")
    for token, of in ranked[:20]:
        print(f"| {token} | {of.total()} | {', '.join(f'{word} {count}' for word, count in of.most_common(4))} |")
    print(f"| {len(ranked) - 20} others | {sum(of.total() for _, of in ranked[20:])} | |")
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    top = ranked[:25][::-1]
    labels = [f"{token}  ({', '.join(word for word, _ in of.most_common(2))})" for token, of in top]
    axes.barh(labels, [of.total() for _, of in top], color="tab:red")
    axes.set(xlabel=f"of {len(captions):,} captions", title="Clotho captions without their first token begin with")
    axes.bar_label(axes.containers[0], padding=2)  # type: ignore[arg-type]
    axes.margins(x=0.08, y=0.01)
    figure.savefig(Path(__file__).with_name("second_tokens.png"), dpi=110)


def show_whole(captions: list[str], tokenizer: CaptionTokenizer) -> None:
    """The most frequent second tokens that are words: nothing shows, but the caption lacks its first one."""
    whole = [(token, count) for token, count in second_tokens(captions, tokenizer).most_common() if token[0].isspace()]
    print("\nwhole words:", ", ".join(f"{token.strip()} {count}" for token, count in whole[:12]))


def show_cleaning(captions: list[str], tokenizer: CaptionTokenizer, lexicon: Lexicon) -> None:
    """What the cleaning step, which knows the development captions, makes of evaluation captions without a first token."""
    outcomes: Counter[str] = Counter()
    for caption, row in zip(
        captions, tokenizer.tokenizer(captions, add_special_tokens=False)["input_ids"], strict=True
    ):
        if not is_fragment(tokenizer.tokenizer.decode([row[1]])):
            continue
        broken, whole = words(tokenizer.decode(row[1:])), words(caption)
        cleaned = words(lexicon.clean(tokenizer.decode(row[1:])))
        if cleaned == whole:
            outcomes["completed, as it was"] += 1
        elif broken[0] in lexicon.words:
            outcomes["left: it is a word itself"] += 1
        elif len(cleaned) == len(broken):
            outcomes["completed to another word"] += 1
        else:
            outcomes["removed"] += 1
    print(
        f"\nthe lexicon: {len(lexicon.words)} words, {len(lexicon.fragments)} fragments that are no words, of which",
        end=" ",
    )
    print(f"{sum(len(of) == 1 for of in lexicon.fragments.values())} have one candidate")
    unknown = [word for caption in captions for word in words(caption) if word not in lexicon.words]
    print(f"words of the evaluation captions that it lacks: {len(unknown)}")
    print(f"broken evaluation captions: {outcomes.total()}")
    for outcome, count in outcomes.most_common():
        print(f"| {outcome} | {count} | {count / outcomes.total():.1%} |")


if __name__ == "__main__":
    main()
