"""Models of others with tiny random weights, on disk in the layout in which they are published."""

import json
from pathlib import Path
from typing import Any

import torch
from conftest import SENTENCES
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
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


def _tokenizer(special: list[str], named: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """Of a few words, the first of the special tokens the end; some special ones under names."""
    backend = CaptionTokenizer.train(SENTENCES, 300).tokenizer.backend_tokenizer
    ends = {"eos_token": special[0], "pad_token": special[0]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **ends, extra_special_tokens=named or {})
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]}, replace_extra_special_tokens=named is None)
    return tokenizer


WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # of Qwen2.5's turns


def make_qwen2_5_omni(folder: Path) -> Path:
    """A Qwen2.5-Omni as published, thinker and all, but for its voice; it hears 70 s."""
    named = {"image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>"}
    named |= {"vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>"}
    named |= {"audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
    tokenizer = _tokenizer(WORDS, named)
    ids = tokenizer.get_vocab()
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=70, return_attention_mask=True).save_pretrained(folder)
    thinker = Qwen2_5OmniThinkerConfig(
        audio_config={
            **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
            **{"num_mel_bins": 16, "max_source_positions": 100, "n_window": 50, "output_dim": 16},
        },
        vision_config={
            **{"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
            **{"fullatt_block_indexes": [0]},
        },
        text_config={
            **TEXT,
            **{"vocab_size": len(tokenizer), "max_position_embeddings": 4096},
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
        },
        audio_token_index=ids["<|AUDIO|>"],
        image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        audio_start_token_id=ids["<|audio_bos|>"],
        audio_end_token_id=ids["<|audio_eos|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
    )
    torch.manual_seed(0)
    model = Qwen2_5OmniForConditionalGeneration(
        Qwen2_5OmniConfig(thinker_config=thinker.to_dict(), enable_audio_output=False)
    )
    loud(model)
    model.save_pretrained(folder)
    return folder


def make_audio_flamingo3(folder: Path) -> Path:
    """An Audio Flamingo 3 that hears windows of 2 s, at most 60 of them."""
    tokenizer = _tokenizer([*WORDS, "<sound>"])
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2, return_attention_mask=True)
    AudioFlamingo3Processor(feature_extractor=extractor, tokenizer=tokenizer, max_audio_len=120).save_pretrained(folder)
    config = AudioFlamingo3Config(
        audio_config={
            **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
            **{"num_mel_bins": 16, "max_source_positions": 100},
        },
        text_config={
            **TEXT,
            **{"model_type": "qwen2", "vocab_size": len(tokenizer), "max_position_embeddings": 4096},
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    torch.manual_seed(0)
    model = AudioFlamingo3ForConditionalGeneration(config)
    loud(model)
    model.generation_config.update(do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.05)
    model.save_pretrained(folder)
    return folder
