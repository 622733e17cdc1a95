"""AST-base and GPT-2 base with random weights, on disk in the Hub's own format.

    python experiments/full_size/random_checkpoints.py FOLDER GPT2_TOKENIZER [--tiny]

The published shapes without a download: what a step costs does not depend on what the weights are. With --tiny the same
kinds of files in a few megabytes, to try an experiment's every step in seconds.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

TINY_AST = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
TINY_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where ast/ and gpt2/ are written")
    parser.add_argument("tokenizer", type=Path, help="folder with GPT-2's vocab.json and merges.txt")
    parser.add_argument("--tiny", action="store_true", help="two narrow layers each, to try a script with")
    arguments = parser.parse_args()
    ast, gpt2 = (TINY_AST, TINY_GPT2) if arguments.tiny else ({}, {})
    torch.manual_seed(0)
    ASTForAudioClassification(ASTConfig(num_labels=527, **ast)).save_pretrained(arguments.folder / "ast")
    GPT2LMHeadModel(GPT2Config(**gpt2)).save_pretrained(arguments.folder / "gpt2")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(arguments.tokenizer / name, arguments.folder / "gpt2" / name)
    print(f"wrote {arguments.folder / 'ast'} and {arguments.folder / 'gpt2'}")


if __name__ == "__main__":
    main()
