"""Models of others with tiny random weights, on disk in the layout in which they are published."""

import json
from pathlib import Path
from typing import Any

import torch
from conftest import SENTENCES
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from a2i.captioner.text import CaptionTokenizer

STYLES = ("clotho > caption: ", "audiocaps > caption: ", "audioset > keywords: ")
# As multilingual Whispers have them, some languages aside: behind the words, in this order.
WHISPER_TOKENS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>"]
WHISPER_TOKENS += ["<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"]
TEXT = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
TEXT |= {"num_key_value_heads": 2, "max_position_embeddings": 256}  # of a language model


def loud(model: torch.nn.Module, factor: float = 4.0) -> None:
    """Weights so wide that a model says something else of each clip."""
    for weight in model.parameters():
        weight.data *= factor


def make_whisper(folder: Path, seconds: int = 2) -> Path:
    """A Whisper that hears so many seconds, with a tokenizer of the old layout and its weights in `pytorch_model.bin`."""
    folder.mkdir(parents=True)
    trained = json.loads(CaptionTokenizer.train([*SENTENCES, *STYLES], 320).tokenizer.backend_tokenizer.to_str())[
        "model"
    ]
    words = [
        word for word, _ in sorted(trained["vocab"].items(), key=lambda item: item[1]) if not word.startswith("<|")
    ]
    ids = {word: index for index, word in enumerate([*words, *WHISPER_TOKENS])}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]

    def write(name: str, content: Any) -> None:
        (folder / name).write_text(json.dumps(content))

    write("vocab.json", {word: ids[word] for word in [*words, "<|endoftext|>"]})
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in trained["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    write("added_tokens.json", {token: ids[token] for token in WHISPER_TOKENS[1:]})
    write("normalizer.json", {"colour": "color"})
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    write("special_tokens_map.json", {**special, "additional_special_tokens": WHISPER_TOKENS})
    token = {"__type": "AddedToken", "content": "<|endoftext|>"}
    token |= {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), token)
    write(
        "tokenizer_config.json",
        {**ends, "add_bos_token": False, "add_prefix_space": False, "errors": "replace", "model_max_length": 1024}
        | {"pad_token": None, "processor_class": "WhisperProcessor", "tokenizer_class": "WhisperTokenizer"},
    )
    write(
        "preprocessor_config.json",
        {"chunk_length": seconds, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 16}
        | {"hop_length": 160, "n_fft": 400, "n_samples": seconds * 16_000, "nb_max_frames": seconds * 100}
        | {"padding_side": "right", "padding_value": 0.0, "processor_class": "WhisperProcessor"}
        | {"return_attention_mask": False, "sampling_rate": 16_000},
    )
    sizes = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    sizes |= {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "d_model": 16}
    common = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    forced = [[1, ids["<|en|>"]], [2, ids["<|transcribe|>"]], [3, ids["<|notimestamps|>"]]]
    config = {**sizes, **common, "vocab_size": len(ids), "num_mel_bins": 16, "max_source_positions": seconds * 50}
    config |= {"max_target_positions": 80, "model_type": "whisper", "architectures": ["WhisperForAudioCaptioning"]}
    write("config.json", {**config, "forced_decoder_ids": forced, "torch_dtype": "float32", "use_cache": True})
    ruled_out = [ids[token] for token in WHISPER_TOKENS[1:]]
    write(
        "generation_config.json",
        {
            **common,
            "max_length": 448,
            "begin_suppress_tokens": [ids["Ġ"], end],
            "suppress_tokens": [*ruled_out, ids["("]],
        }
        | {"is_multilingual": True, "lang_to_id": {"<|en|>": ids["<|en|>"]}, "return_timestamps": False}
        | {"task_to_id": {"transcribe": ids["<|transcribe|>"]}, "no_timestamps_token_id": ids["<|notimestamps|>"]}
        | {"_from_model_config": False, "transformers_version": "4.27.1"},
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**config))
    loud(model, 10)
    words_out = model.model.decoder.embed_tokens.weight
    torch.manual_seed(5)
    words_out.data[end] = 2 * words_out.std() * torch.randn(16)  # so that captions end
    weights = {name: value for name, value in model.state_dict().items() if name != "proj_out.weight"}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def make_qwen2_audio(folder: Path) -> Path:
    """A Qwen2-Audio that hears 2 s."""
    special = ["<|endoftext|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    tokenizer = _tokenizer(special)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2)  # 200 frames
    Qwen2AudioProcessor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    config = Qwen2AudioConfig(
        audio_config={
            **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
            **{"num_mel_bins": 16, "max_source_positions": 100},
        },
        text_config={**TEXT, "vocab_size": len(tokenizer)},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config)
    loud(model)
    model.save_pretrained(folder)
    return folder


def _tokenizer(special: list[str]) -> PreTrainedTokenizerFast:
    """Of a few words, the first of the special tokens the end."""
    backend = CaptionTokenizer.train(SENTENCES, 300).tokenizer.backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=special[0], pad_token=special[0])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    return tokenizer
