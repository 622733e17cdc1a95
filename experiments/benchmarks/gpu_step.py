"""A training step of AST-base + GPT-2 base on one GPU in bfloat16: what share of the card's measured matrix rate it reaches.

The floating-point operations are counted by hand below: products of matrices alone, two operations a multiplication and
addition, the backward pass twice the forward one. The card's rate is that of a large product in bfloat16 in the same process.
"""

import json
import statistics
import sys
import time

import torch
from epoch import build
from measure import HERE, arguments, machine, models

D, LAYERS, FEED_FORWARD, VOCABULARY = 768, 12, 3072, 50257  # of both models
PATCHES, PATCH = 12 * 101, 16 * 16
SIDE, PRODUCTS = 8192, 50  # of the matrices that the rate is measured with


def encoder_operations() -> int:
    """Forward, of a clip of 10.24 s."""
    states = PATCHES + 2
    layer = 4 * states * D * D + 2 * states * states * D + 2 * states * D * FEED_FORWARD  # multiplications
    return 2 * (LAYERS * layer + PATCHES * PATCH * D)


def shared_operations() -> int:
    """Forward, of a clip's keys and values, computed once for all its captions."""
    return 2 * LAYERS * 2 * (PATCHES + 2) * D * D


def decoder_operations(tokens: int) -> int:
    """Forward, of a caption of so many tokens, without what it shares with the clip's others."""
    states = PATCHES + 2
    own = 4 * tokens * D * D + 2 * tokens * tokens * D
    cross = 2 * tokens * D * D + 2 * tokens * states * D
    return 2 * (LAYERS * (own + cross + 2 * tokens * D * FEED_FORWARD) + tokens * D * VOCABULARY)


def matrix_rate() -> float:
    """Operations a second of a large product."""
    one, other = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        one @ other
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(PRODUCTS):
        one @ other
    torch.cuda.synchronize()
    return PRODUCTS * 2 * SIDE**3 / (time.perf_counter() - began)


def main() -> None:
    given = arguments(__doc__, clips=32, captions=5, tokens=24, steps=20, compile=0)
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA device; nothing was measured")
    captioner, _ = build(str(models(given.work)))
    captioner = captioner.cuda().train()
    if given.compile:
        captioner.encoder.compile()
    optimizer = torch.optim.Adam(captioner.parameters(), lr=5e-5, fused=True)
    texts = [" ".join(["sound"] * (given.tokens - 2)) + "." for _ in range(given.clips * given.captions)]
    tokens = captioner.tokenizer.encode(texts).to("cuda")
    clip_index = torch.arange(given.clips, device="cuda").repeat_interleave(given.captions)
    log_mel = torch.randn(given.clips, 1024, 128, device="cuda")
    mask = torch.ones(log_mel.shape[:2], dtype=torch.bool, device="cuda")
    length = int(tokens.inputs.shape[1])

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss, _ = captioner.loss(log_mel, mask, tokens, clip_index)
        loss.backward()
        optimizer.step()

    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    warm_up = time.perf_counter() - began
    each = encoder_operations() + shared_operations() + given.captions * decoder_operations(length)
    operations = 3 * given.clips * each
    rates, shares = [], []
    for _ in range(given.repeats):
        rates.append(matrix_rate())
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(given.steps):
            step()
        torch.cuda.synchronize()
        shares.append(operations * given.steps / (time.perf_counter() - began) / rates[-1])
    record = {
        "operations": operations,
        "matrix_rate": rates,
        "share": shares,
        "warm_up": warm_up,
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "settings": {key: str(value) for key, value in vars(given).items()},
        "machine": machine(),
        "torch": torch.__version__,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "gpu_step.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{operations / 1e12:.1f} TFLOP a step, {statistics.median(shares):.1%} of the card's measured matrix rate")
    print(
        f"record in {(given.out / 'gpu_step.json').relative_to(HERE) if given.out.is_relative_to(HERE) else given.out}"
    )


if __name__ == "__main__":
    main()
