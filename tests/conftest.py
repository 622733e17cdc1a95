"""Small real parts that the tests share: models with tiny random weights on disk, sounds made here."""

import gc
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, Phase, settings

from a2i.captioner import Captioner
from a2i.captioner.decoders.gpt2 import GPT2Decoder
from a2i.captioner.decoding import Decoding
from a2i.captioner.encoders.ast import ASTEncoder
from a2i.captioner.encoders.cnn import CNNEncoder
from a2i.captioner.text import CaptionTokenizer

# Several processes test at once; threads of each would only wait for the others'.
torch.set_num_threads(1)
# How long an example takes says more of what else the machine does than of what is tested.
settings.register_profile("a2i", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Where it is enough that a test fails, no smaller example is looked for: experiments/reliability/mutants.py.
settings.register_profile("mutants", settings.get_profile("a2i"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("a2i")

SENTENCES = [
    "A dog barks.",
    "Rain falls on a roof while a bell rings.",
    "Birds are singing in a forest.",
    "A clock ticks slowly, and then thunder rolls.",
    "Footsteps on gravel come closer.",
]
TINY_AST = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_mel_bins": 128,
}
# Mute, hearing a made sound in place of a microphone without a question, and asking nobody for updates.
CHROMIUM = [
    "--mute-audio",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
]
TINY_GPT2 = {"n_embd": 48, "n_layer": 2, "n_head": 2, "n_positions": 40}


LONGEST = ("test_ranks.py",)  # begun last, they would leave all but one worker with nothing to do


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")


def pytest_collection_finish() -> None:
    """What was imported stays: it need not be looked through whenever garbage is collected."""
    gc.collect()
    gc.freeze()


def _state() -> dict[str, Any]:
    """What all tests of a process share, and none may leave changed to the next."""
    return {
        "level of the root logger": logging.root.level,
        "level that no logger tells": logging.root.manager.disable,
        "loggers that tell nothing": {
            name
            for name, logger in logging.root.manager.loggerDict.items()
            if name.startswith("a2i") and isinstance(logger, logging.Logger) and logger.disabled
        },
        "garbage is collected": gc.isenabled(),
        "working folder": Path.cwd(),
        "PyTorch's threads": torch.get_num_threads(),
        "PyTorch's number format": torch.get_default_dtype(),
        "PyTorch's gradients": torch.is_grad_enabled(),
        "PyTorch's certain algorithms only": torch.are_deterministic_algorithms_enabled(),
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "what SIGTERM does": signal.getsignal(signal.SIGTERM),
    }


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_changed_by_a_module() -> Iterator[None]:
    """As the next, of what a module's fixtures do before its first test and after its last."""
    yield from _unchanged()


@pytest.fixture(autouse=True)
def _nothing_left_changed() -> Iterator[None]:
    """Fail the test that would make another fail, by chance, on some other day."""
    yield from _unchanged()


def _unchanged() -> Iterator[None]:
    before = _state()
    yield
    after = _state()
    assert not {name: (before[name], left) for name, left in after.items() if before[name] != left}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings and captions."""
    if not os.environ.get("A2I_REAL_DATA"):
        pytest.skip("needs real recordings: set A2I_REAL_DATA to their folder")
    return Path(os.environ["A2I_REAL_DATA"])


@pytest.fixture(scope="session")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(SENTENCES, 320, max_tokens=20)


def make_captioner(
    tokenizer: CaptionTokenizer, encoder: str = "cnn", seed: int = 0, keywords: Sequence[str] = ()
) -> Captioner:
    """A captioner with tiny random weights."""
    torch.manual_seed(seed)
    sound = ASTEncoder(config=TINY_AST) if encoder == "ast" else CNNEncoder(channels=[4, 8])
    decoder = GPT2Decoder(len(tokenizer), config=TINY_GPT2)
    decoding = Decoding(num_beams=2, num_candidates=2, max_tokens=8)
    bridge = {"kind": "keywords", "names": list(keywords)} if keywords else "auto"
    return Captioner(sound, decoder, tokenizer, bridge, decoding=decoding).eval()


@pytest.fixture(params=["ast", "cnn"])
def captioner(request: pytest.FixtureRequest, tokenizer: CaptionTokenizer) -> Captioner:
    return make_captioner(tokenizer, request.param)


@pytest.fixture(scope="session")
def captioner_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: CaptionTokenizer) -> Path:
    return make_captioner(tokenizer).save(tmp_path_factory.mktemp("models") / "captioner")


@pytest.fixture(scope="session")
def painter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete Stable Diffusion pipeline with tiny random weights, drawing 32 px."""
    return make_painter(tmp_path_factory.mktemp("models") / "painter")


def make_painter(folder: Path) -> Path:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True)
    letters = [*"abcdefghijklmnopqrstuvwxyz.,"]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=24)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    blocks = {"block_out_channels": (16, 16), "norm_num_groups": 4, "layers_per_block": 1}
    unet = UNet2DConditionModel(
        sample_size=16,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **blocks,
    )
    vae = AutoencoderKL(
        latent_channels=4,
        sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **blocks,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,"]


def scattered(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights so wide that different inputs are embedded in different directions."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "embedding" in name:
            torch.nn.init.normal_(weight, std=1.0)
        elif weight.ndim > 1:
            torch.nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clap(tmp_path_factory.mktemp("models") / "clap")


def make_clip(folder: Path) -> Path:
    """A CLIP with tiny random weights that sees 16 px and reads letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = ["<|startoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|endoftext|>"]
    ids = {"bos_token_id": 0, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)  # of what `scattered` leaves as it is
    model = CLIPModel(
        CLIPConfig(
            text_config={**sizes, **ids, "vocab_size": len(words), "max_position_embeddings": 40},
            vision_config={**sizes, "image_size": 16, "patch_size": 4},
            projection_dim=12,
        )
    )
    scattered(model)
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=40).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def make_clap(folder: Path, fusion: bool = False) -> Path:
    """A CLAP with tiny random weights that hears a second at 4 kHz and reads letters."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "Ġ", "<mask>"]
    torch.manual_seed(0)  # of what `scattered` leaves as it is
    model = ClapModel(
        ClapConfig(
            text_config={
                "vocab_size": len(words),
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "max_position_embeddings": 34,
                "projection_dim": 12,
            },
            audio_config={
                "spec_size": 32,
                "num_mel_bins": 8,
                "window_size": 4,
                "patch_embeds_hidden_size": 8,
                "hidden_size": 16,
                "depths": [1, 1],
                "num_attention_heads": [2, 2],
                "num_hidden_layers": 2,
                "projection_dim": 12,
                "enable_fusion": fusion,
                "fusion_type": None,
            },
            projection_dim=12,
        )
    )
    if not fusion:
        scattered(model)
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(words)}
    RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=32).save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=8,
        sampling_rate=4000,
        hop_length=40,
        max_length_s=1,
        fft_window_size=128,
        frequency_max=2000,
        truncation="fusion" if fusion else "rand_trunc",
    ).save_pretrained(folder)
    return folder


def listen_to_ctrl_c() -> None:
    """For a child process: what a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond `room` bytes."""
    resource = pytest.importorskip("resource", reason="limits of a process are Unix's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def tone(frequency: float, seconds: float, rate: int = 16_000) -> np.ndarray:
    """(samples,) float32 sine of half full scale."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder of three short sounds with a table of captions."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name, frequency in (("low", 200.0), ("middle", 1000.0), ("high", 4000.0)):
        soundfile.write(folder / f"{name}.wav", tone(frequency, 0.5), 16_000)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = [os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome", "chrome"]
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("needs a Chromium: install one, or set CHROMIUM to its path")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=found, args=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens a page of the disk, or of this machine by its address. What it complained about, and what it asked for outside of
    this machine, fails the test in the end."""
    complaints: list[str] = []
    requests: list[str] = []
    pages = []

    def open_page(path: Path | str, **settings: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1440, "height": 1000}} | settings)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri() if isinstance(path, Path) else path)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.stolen") is None
        page.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))] == []
