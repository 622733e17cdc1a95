"""AST-base and GPT-2 base with random weights, on disk in the Hub's own format.

    python experiments/full_size/random_checkpoints.py FOLDER GPT2_TOKENIZER

The published shapes without a download: what a step costs does not depend on what the weights are.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where ast/ and gpt2/ are written")
    parser.add_argument("tokenizer", type=Path, help="folder with GPT-2's vocab.json and merges.txt")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ASTForAudioClassification(ASTConfig(num_labels=527)).save_pretrained(arguments.folder / "ast")
    GPT2LMHeadModel(GPT2Config()).save_pretrained(arguments.folder / "gpt2")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(arguments.tokenizer / name, arguments.folder / "gpt2" / name)
    print(f"wrote {arguments.folder / 'ast'} and {arguments.folder / 'gpt2'}")


if __name__ == "__main__":
    main()
