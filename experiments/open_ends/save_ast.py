"""The AST of a captioner folder, on disk in the Hub's own format, for others to start from.

python experiments/open_ends/save_ast.py RUN/captioner runs/small_ast/ast
"""

import argparse
from pathlib import Path

from a2i.captioner import Captioner
from a2i.captioner.encoders.ast import ASTEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captioner", type=Path, help="captioner folder whose encoder is an AST")
    parser.add_argument("out", type=Path, help="where config.json and model.safetensors are written")
    arguments = parser.parse_args()
    encoder = Captioner.load(arguments.captioner).encoder
    if not isinstance(encoder, ASTEncoder):
        raise SystemExit(f"{arguments.captioner}: its encoder is a {type(encoder).__name__}; expected an ASTEncoder")
    encoder.model.save_pretrained(arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
