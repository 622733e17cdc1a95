"""What a captioner costs: weights, floating-point operations of a caption, seconds of a training step.

FLOPs are two for a multiplication with its addition, of matrix products, convolutions and attention, counted by PyTorch in one
pass: a clip of 5 s, and a caption of 12 tokens under teacher forcing. Beams and what steps repeat are not in them.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from a2i.captioner import Captioner
from a2i.captioner.text import TokenBatch

SECONDS, TOKENS = 5, 12  # of the clip and its caption
CLIPS, CAPTIONS = 16, 5  # of a training step


@dataclass(frozen=True)
class Cost:
    """Of one captioner."""

    parameters: int  # that learn
    flops: int  # of one clip and caption
    step_seconds: (
        float  # of a training step of 16 clips with five captions each, in bfloat16, of the processor: median of three
    )


def measure(captioner: Captioner) -> Cost:
    """Count and time; the captioner's weights stay as they are."""
    parameters = sum(weight.numel() for weight in captioner.parameters() if weight.requires_grad)
    flops = count_flops(captioner)
    captioner.train()
    seconds = []
    for _ in range(4):
        began = time.process_time()
        with torch.autocast(captioner.device.type, torch.bfloat16):  # as the comparison trains
            value = loss(captioner, CLIPS, CAPTIONS)
        value.backward()
        seconds.append(time.process_time() - began)
        captioner.zero_grad()
    captioner.eval()
    return Cost(parameters, flops, statistics.median(seconds[1:]))


def count_flops(captioner: Captioner) -> int:
    """Of encoder, bridge and decoder; see above."""
    return counted(lambda: loss(captioner.eval(), 1, 1))


def counted(work: Callable[[], object]) -> int:
    """FLOPs of one call, without gradients."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # One operation for a whole layer, or for all of an attention on a CPU, would count as nothing.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def loss(captioner: Captioner, clips: int, captions: int) -> torch.Tensor:
    """Of noise with captions of one word said again and again; batch statistics are given back as they were."""
    generator = torch.Generator().manual_seed(0)
    samples = SECONDS * captioner.sampling_rate
    waveforms = 0.1 * torch.randn(clips, samples, generator=generator)
    log_mel, mask = captioner.log_mel(waveforms, torch.full((clips,), samples))
    ids = torch.ones(clips * captions, TOKENS, dtype=torch.long)
    tokens = TokenBatch(ids, ids, torch.ones_like(ids, dtype=torch.bool))
    before = {name: value.clone() for name, value in captioner.named_buffers()}
    value, _ = captioner.loss(log_mel, mask, tokens, torch.arange(clips).repeat_interleave(captions))
    for name, buffer in captioner.named_buffers():
        buffer.data.copy_(before[name])
    return value
