"""Caption + seed → picture, through diffusers. No Lightning here."""

import inspect
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from a2i import hub
from a2i.errors import one_line
from a2i.machine import find_device
from a2i.paths import MINI_PAINTER

# Of a scheduler: what the model was trained with, so that another one must not leave it out.
TRAINED_WITH = ("prediction_type", "beta_schedule", "rescale_betas_zero_snr")

MOST_STEPS = 1_000  # that diffusion models are trained with
MOST_GUIDANCE = 1_000
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


@dataclass(frozen=True)
class Drawing:
    """A picture and how it came about.

    Attributes:
        image: RGB.
        prompt: what the picture model was given.
        flagged: the safety checker's verdict, None where the model has no checker. A flagged picture is black.
    """

    image: Image.Image
    prompt: str
    flagged: bool | None


class PictureModel(Protocol):
    """What draws captions: all that inference and evaluation ask of a picture model, of which `Painter` is one.

    A configuration's class is called with the settings beside its `_target_`, with `device`, and with `dtype` where the user
    asks for one: `MyPainter(**settings, device=device, dtype="bfloat16")`.
    """

    @property
    def name(self) -> str:
        """For results and messages."""
        ...

    @property
    def licence(self) -> str | None:
        """Of the weights; None where it is not known."""
        ...

    def to(self, device: Any) -> Any:
        """Move the weights to a device."""
        ...

    def draw_batch(self, captions: Sequence[str], seeds: Sequence[int], show_progress: bool = False) -> list[Drawing]:
        """Draw several captions, each with its seed; a neighbour changes a picture by no more than rounding.

        Args:
            captions: sentences.
            seeds: as many.
            show_progress: a bar on the terminal.
        """
        ...

    def tokens_over(self, caption: str) -> int:
        """Tokens at the caption's end that the model leaves out."""
        ...


class Painter:
    """A text-to-image pipeline with its settings: steps, guidance and licence belong to each model."""

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        steps: int = 50,
        scheduler: str | None = None,
        guidance_scale: float = 7.5,
        width: int | None = None,
        height: int | None = None,
        prompt_template: str = "{caption}",
        negative_prompt: str | None = None,
        licence: str | None = None,
        safety_checker: bool = True,
        device: str | torch.device | None = None,
        dtype: str | None = None,
    ) -> None:
        """Load a pipeline.

        Args:
            model: Hub id or local folder in diffusers' format, or `embedded` for the small one that comes with a2i.
            revision: branch, tag or commit on the Hub.
            steps: denoising steps.
            scheduler: class of diffusers that takes the steps, such as `DPMSolverMultistepScheduler`, with the settings of the
                model's own; None for the model's own.
            guidance_scale: of classifier-free guidance (Ho and Salimans 2022).
            width: of the picture in pixels; None for the model's own.
            height: likewise.
            prompt_template: with `{caption}` where the caption goes.
            negative_prompt: what the picture should not show.
            licence: of the weights; shown with the model.
            safety_checker: use the model's, if it has one.
            device: None for CUDA where there is one, else Apple's GPU, else the CPU.
            dtype: of the weights: `float32`, `bfloat16` or `float16`; None for float16 on CUDA, float32 elsewhere.

        Raises:
            ValueError: a setting does not fit, or the model can't be had.
        """
        if not _whole(steps) or not 1 <= steps <= MOST_STEPS:
            raise ValueError(f"got steps={steps!r}; expected a whole number from 1 to {MOST_STEPS:,}")
        if not isinstance(prompt_template, str) or "{caption}" not in prompt_template:
            raise ValueError(f"got prompt_template={prompt_template!r}; expected a template with {{caption}}")
        number = isinstance(guidance_scale, int | float) and not isinstance(guidance_scale, bool)
        if not number or not 0 <= guidance_scale <= MOST_GUIDANCE:
            raise ValueError(f"got guidance_scale={guidance_scale!r}; expected a number from 0 to {MOST_GUIDANCE}")
        for name, size in (("width", width), ("height", height)):
            if size is not None and (not _whole(size) or size < 8 or size % 8):
                raise ValueError(f"got {name}={size!r}; expected a multiple of 8 pixels")
        self.model = model
        self.name = "a2i-mini-painter" if model == "embedded" else model
        self.licence = licence
        self.steps, self.guidance_scale = steps, guidance_scale
        self.width, self.height = width, height
        self.prompt_template, self.negative_prompt = prompt_template, negative_prompt
        if dtype not in (None, *DTYPES):
            raise ValueError(
                f"got dtype={dtype!r}; expected one of {', '.join(DTYPES)}, or None for what suits the device"
            )
        self.dtype = dtype
        self._drawing = threading.Lock()  # a scheduler counts its steps: two threads would count together
        device = find_device(device)
        source = str(MINI_PAINTER) if model == "embedded" else model
        self.pipeline = _load(source, revision, safety_checker, self._dtype_on(device)).to(device)
        if scheduler is not None:
            self.pipeline.scheduler = _exchanged(self.pipeline.scheduler, scheduler, steps)

    def to(self, device: str | torch.device) -> "Painter":
        """Move the pipeline to a device.

        Raises:
            ValueError: the device can't be used here.
        """
        device = find_device(device)
        self.pipeline.to(device, self._dtype_on(device))
        return self

    def _dtype_on(self, device: torch.device) -> torch.dtype:
        return DTYPES[self.dtype or ("float16" if device.type == "cuda" else "float32")]

    def draw(self, caption: str, seed: int = 0, show_progress: bool = False) -> Drawing:
        """Draw a caption. The same caption, seed and settings give the same picture on the same kind of machine.

        Args:
            caption: a sentence.
            seed: of the noise that the picture begins as.
            show_progress: a bar over the denoising steps.
        """
        return self.draw_batch([caption], [seed], show_progress)[0]

    def draw_batch(self, captions: Sequence[str], seeds: Sequence[int], show_progress: bool = False) -> list[Drawing]:
        """Draw several captions at once; a picture is the one that `draw` gives, but for the rounding of a batch's sums."""
        prompts = [self.prompt_template.replace("{caption}", caption) for caption in captions]
        negative = None if self.negative_prompt is None else [self.negative_prompt] * len(prompts)
        arguments: dict[str, Any] = {"negative_prompt": negative, "width": self.width, "height": self.height}
        with self._drawing:
            self.pipeline.set_progress_bar_config(disable=not show_progress, leave=False, desc="drawing")
            output = self.pipeline(
                prompts,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance_scale,
                # On the CPU, so that a seed means the same noise with every device; one each, so that neighbours change
                # nothing.
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                **{name: value for name, value in arguments.items() if value is not None},
            )
        flagged = getattr(output, "nsfw_content_detected", None) or [None] * len(prompts)
        return [
            Drawing(image.convert("RGB"), prompt, flag)
            for image, prompt, flag in zip(output.images, prompts, flagged, strict=True)
        ]

    def tokens_over(self, caption: str) -> int:
        """Tokens of the caption's prompt that the text model will not see: most cut prompts, at 77 tokens, silently."""
        tokenizer = getattr(self.pipeline, "tokenizer", None)
        if tokenizer is None:
            return 0
        length = len(tokenizer(self.prompt_template.replace("{caption}", caption), truncation=False)["input_ids"])
        return max(0, length - tokenizer.model_max_length)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _load(source: str, revision: str | None, safety_checker: bool, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    if Path(source).is_dir() and not (Path(source) / "model_index.json").is_file():
        raise ValueError(f"{source}: no model_index.json there; expected a folder in diffusers' format")
    # Bars over the parts that load, and a remark that torchvision, which nothing here needs, is not installed.
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    off: dict[str, Any] = {} if safety_checker else {"safety_checker": None, "requires_safety_checker": False}
    try:
        hub.look_up(source, revision, "model_index.json")
        return DiffusionPipeline.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            **off,
        )
    except (*hub.failures(), ValueError) as error:
        raise ValueError(
            f"{source}: could not load a picture model ({hub.why(error)}); expected a Hub id, which"
            " needs the network once, or a local folder in diffusers' format. image=mini needs neither"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _exchanged(own: Any, name: str, steps: int) -> Any:
    """The scheduler of that name, with the settings of the model's own.

    Raises:
        ValueError: there is none of that name that could draw with this model in so many steps.
    """
    from diffusers import SchedulerMixin

    if name == type(own).__name__:
        return own
    # A class that lacks a setting keeps it in its `config` all the same, without heeding it, and may draw blots: ask its
    # signature. Stand-ins for classes whose packages are not installed are no SchedulerMixin.
    needed = [setting for setting in TRAINED_WITH if own.config.get(setting)]
    fitting = {
        each.__name__: each
        for each in own.compatibles
        if issubclass(each, SchedulerMixin) and not set(needed) - inspect.signature(each).parameters.keys()
    }
    said = "it is none that takes the model's settings"
    if name in fitting:
        try:
            return _tried(fitting[name], own, steps)
        except ValueError as error:
            said = str(error)
    offered = [each for each in sorted(fitting) if each != name and _draws(fitting[each], own, steps)]
    raise ValueError(
        f"got scheduler={name} with steps={steps}: {said}; expected null for the model's own, {type(own).__name__}, or a class"
        f" of diffusers that takes its settings ({', '.join(needed)}) and so many steps: {', '.join(offered)}"
    )


def _draws(kind: Any, own: Any, steps: int) -> bool:
    try:
        _tried(kind, own, steps)
    except ValueError:
        return False
    return True


def _tried(kind: Any, own: Any, steps: int) -> Any:
    """A scheduler of that kind, after its steps were taken once on a few numbers, as a pipeline takes them.

    Not every kind does everything that its settings can ask for, nor in any number of steps, and only then says so.

    Raises:
        ValueError: it can't take them, or they end in numbers that are none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of diffusers' own use of NumPy
            scheduler, new = kind.from_config(own.config), kind.from_config(own.config)
            scheduler.set_timesteps(steps)
            taken = inspect.signature(scheduler.step).parameters
            generator = {"generator": [torch.Generator().manual_seed(0)]} if "generator" in taken else {}
            latents = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
            for time in scheduler.timesteps:
                predicted = 0.9 * scheduler.scale_model_input(latents, time)
                (latents, *_) = scheduler.step(predicted, time, latents, **generator, return_dict=False)
    # Each kind fails in its own way at what it can't do.
    except Exception as error:
        raise ValueError(f"it can't take these steps ({type(error).__name__}: {one_line(error)})") from error
    if not bool(latents.isfinite().all()):
        raise ValueError("its steps end in numbers that are none")
    return new
