"""What a training step of AST-base and GPT-2 base computes: counted by hand, and by torch in a real pass.

    python experiments/ast_gpt2/flops.py [--seconds 22.5] [--tokens 15] [--captions 1] [--run]

With --run one clip goes through the full-size captioner, forward and backward, with random weights: torch counts, and a clock
runs beside it. A multiplication and an addition are two floating-point operations.
"""

import argparse
import time
from math import ceil

LAYERS, WIDTH, VOCABULARY = 12, 768, 50257  # of AST-base and GPT-2 base alike
LAYER_WEIGHTS = 12 * WIDTH**2  # of attention (4) and feed-forward (8)
WINDOW_SECONDS = 10.16
ROWS, COLUMNS, SPECIAL = 12, 101, 2  # of patches along frequency, along time at most; CLS and distillation


def forward(seconds: float, tokens: int, captions: int) -> dict[str, float]:
    """Operations of one clip with its captions, forward, in TFLOP. Windows are whole but for a clip that fills none."""
    windows = ceil(seconds / WINDOW_SECONDS)
    columns = COLUMNS if windows > 1 else min(COLUMNS, ceil((100 * seconds - 16) / 10) + 1)
    states = SPECIAL + ROWS * columns
    heard = windows * states
    written = captions * tokens
    values = {
        "AST: patches": 2 * windows * ROWS * columns * 16 * 16 * WIDTH,
        "AST: linear layers": 2 * heard * LAYERS * LAYER_WEIGHTS,
        "AST: attention": 4 * windows * LAYERS * states**2 * WIDTH,
        "GPT-2: keys and values of the states": 2 * captions * heard * LAYERS * 2 * WIDTH**2,
        "GPT-2: attention to the states": 4 * written * heard * LAYERS * WIDTH,
        "GPT-2: linear layers": 2 * written * LAYERS * (LAYER_WEIGHTS + 2 * WIDTH**2),
        "GPT-2: logits": 2 * written * WIDTH * VOCABULARY,
    }
    return {name: value / 1e12 for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=22.5, help="of the clip")
    parser.add_argument("--tokens", type=int, default=15, help="of its caption, BOS or EOS among them")
    parser.add_argument("--captions", type=int, default=1, help="of the clip in a step")
    parser.add_argument("--run", action="store_true", help="one real pass on this machine, for comparison")
    arguments = parser.parse_args()
    for way, seconds in (("truncate", min(arguments.seconds, WINDOW_SECONDS)), ("window", arguments.seconds)):
        parts = forward(seconds, arguments.tokens, arguments.captions)
        total = sum(parts.values())
        print(f"{way}: {total:.3f} TFLOP forward, {3 * total:.2f} with backward, of which")
        for name, value in parts.items():
            print(f"    {name}: {value:.3f}")
    if arguments.run:
        measure(arguments.seconds, arguments.tokens)


def measure(seconds: float, tokens: int) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from a2i.captioner.decoders.gpt2 import GPT2Decoder
    from a2i.captioner.encoders.ast import ASTEncoder

    encoder, decoder = ASTEncoder(config={}), GPT2Decoder(VOCABULARY, config={})
    frames = round(100 * seconds)
    log_mel, mask = torch.randn(1, frames, 128), torch.ones(1, frames, dtype=torch.bool)
    inputs = torch.randint(VOCABULARY, (1, tokens))
    began = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        states, states_mask = encoder(log_mel, mask)
        decoder(inputs, torch.ones_like(inputs, dtype=torch.bool), states, states_mask).logsumexp(-1).sum().backward()
    taken = time.perf_counter() - began
    counted = counter.get_total_flops() / 1e12
    print(
        f"torch counts {counted:.2f} TFLOP forward and backward; {taken:.0f} s on {torch.get_num_threads()} thread(s),",
        end="",
    )
    print(f"on {torch.get_num_threads()} thread(s), {counted / taken:.3f} TFLOP a second")


if __name__ == "__main__":
    main()
