"""AST-base and GPT-2 base with random weights, on disk in the Hub's own format.

    python experiments/full_size/random_checkpoints.py FOLDER GPT2_TOKENIZER [--small]

The published shapes without a download: what a step costs does not depend on what the weights are. With --small the same
kinds of files in a few megabytes, to try an experiment's every step in seconds.
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
    parser.add_argument("--small", action="store_true", help="a few narrow layers instead of the published shapes")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ast = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    gpt2 = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 80}
    ast, gpt2 = (ast, gpt2) if arguments.small else ({}, {})
    ASTForAudioClassification(ASTConfig(num_labels=527, **ast)).save_pretrained(arguments.folder / "ast")
    GPT2LMHeadModel(GPT2Config(**gpt2)).save_pretrained(arguments.folder / "gpt2")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(arguments.tokenizer / name, arguments.folder / "gpt2" / name)
    print(f"wrote {arguments.folder / 'ast'} and {arguments.folder / 'gpt2'}")


if __name__ == "__main__":
    main()
