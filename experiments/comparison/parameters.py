"""Each system's weights at the size of its paper, beside what the paper says.

    python experiments/comparison/parameters.py

Nothing is downloaded: the systems are built without any memory for their weights. Encoders are counted with the classifier that
their papers count, 527 kinds of AudioSet, where they do; decoders with the vocabulary that the paper's code names.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import ASTConfig, ASTForAudioClassification, GPT2Config, GPT2LMHeadModel

from a2i.captioner.bridge import Bridge
from a2i.captioner.decoders.gru import GRUDecoder
from a2i.captioner.decoders.transformer import TransformerDecoder
from a2i.captioner.encoders.act import ACTEncoder
from a2i.captioner.encoders.crnn import CRNNEncoder
from a2i.captioner.encoders.gru import GRUEncoder
from a2i.captioner.encoders.panns import PANNsEncoder

AUDIOSET, CLOTHO_WORDS = 527, 4_368  # kinds; words of Clotho in lukewys/dcase_2020_T6
NOT_READ = "not read: the paper's text was not at hand"


@dataclass(frozen=True)
class Row:
    """A part or system, our count, and the paper's where one is known."""

    name: str
    ours: int
    published: int | None
    source: str


def weights(*modules: nn.Module) -> int:
    """That learn."""
    return sum(weight.numel() for module in modules for weight in module.parameters() if weight.requires_grad)


def classifier(width: int, kinds: int) -> int:
    return (width + 1) * kinds


def rows() -> list[Row]:
    """All of them."""
    cnn10, cnn14 = PANNsEncoder(blocks=4), PANNsEncoder(blocks=6)
    panns = "Kong et al. 2020, table XII"
    small = TransformerDecoder(CLOTHO_WORDS, layers=2, width=192, heads=4, feedforward=2048)
    chen = weights(cnn10, Bridge(512, 192), small)
    act = ACTEncoder(patch_frames=4), TransformerDecoder(CLOTHO_WORDS, 4, 512, 8, 2048, "gelu")
    gru = GRUEncoder(subsample=2), GRUDecoder(CLOTHO_WORDS, 2, 256, 256, 512)
    crnn = CRNNEncoder(), GRUDecoder(CLOTHO_WORDS)
    gpt2 = weights(GPT2LMHeadModel(GPT2Config()))
    published = weights(
        ASTForAudioClassification(ASTConfig()).audio_spectrogram_transformer,
        GPT2LMHeadModel(GPT2Config(add_cross_attention=True)),
    )
    return [
        Row("CNN10, with its classifier", weights(cnn10) + classifier(512, AUDIOSET), 5_219_279, panns),
        Row("CNN14, with its classifier", weights(cnn14) + classifier(2048, AUDIOSET), 80_753_615, panns),
        Row("CNN + Transformer (Chen et al.)", chen, chen_code(), "its authors' code, rebuilt from PyTorch's layers"),
        Row("ACT, patches of 4 frames", weights(*act, Bridge(768, 512)), act_code(), "likewise"),
        Row("CRNN5", weights(crnn[0]), None, NOT_READ),
        Row("CRNN + GRU (Xu et al.)", weights(*crnn), None, NOT_READ),
        Row("GRU + GRU (Drossos et al.), our sizes", weights(*gru, Bridge(512, 512)), None, NOT_READ),
        Row("GPT-2", gpt2, 124_439_808, "the published checkpoint"),
        Row("AST + GPT-2 with cross-attention", published, None, "none given"),
    ]


def chen_code() -> int:
    """lukewys/dcase_2020_T6: CNN10, two linear layers, `torch.nn`'s decoder of two layers, words in and out."""
    convolutions = sum(weight.numel() for name, weight in PANNsEncoder().named_parameters() if "fc1" not in name)
    layers = nn.TransformerDecoder(nn.TransformerDecoderLayer(192, 4), 2)
    words = nn.Embedding(CLOTHO_WORDS, 192), nn.Linear(192, CLOTHO_WORDS)
    return convolutions + weights(nn.Linear(512, 512), nn.Linear(512, 192), layers, *words)


def act_code() -> int:
    """XinhaoMei/ACT: 12 layers on patches of 4 frames × 64 bins, 126 places, a head of 527, four decoder layers of 512."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(768, 12, 3072), 12, enable_nested_tensor=False)
    front = weights(nn.BatchNorm2d(64), nn.Linear(256, 768)) + (126 + 1) * 768
    head = nn.LayerNorm(768), nn.Linear(768, AUDIOSET), nn.Linear(AUDIOSET, 512)
    layers = nn.TransformerDecoder(nn.TransformerDecoderLayer(512, 8, 2048), 4)
    return front + weights(encoder, *head, layers, nn.Embedding(CLOTHO_WORDS, 512), nn.Linear(512, CLOTHO_WORDS))


def main() -> None:
    with torch.device("meta"):
        found = rows()
    print("| | ours | published | difference | source |\n|---|---|---|---|---|")
    for row in found:
        known = "" if row.published is None else f"{row.published:,}"
        difference = "" if row.published is None else f"{row.ours - row.published:+,}"
        print(f"| {row.name} | {row.ours:,} | {known} | {difference} | {row.source} |")


if __name__ == "__main__":
    main()
