"""Caption + seed → picture, through diffusers. No Lightning here."""

import inspect
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from a2i import hub, start_picture
from a2i.image_settings import check_painter
from a2i.lora import add_lora
from a2i.machine import find_device
from a2i.memory import OFFLOADS, chosen_offload, free_for, lay_out, no_room, weights_of
from a2i.paths import MINI_PAINTER
from a2i.schedulers import exchanged

MIDDLE = "intermediate_timesteps"  # of SANA-Sprint: the step between two, which it refuses where steps are not two
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
INDEX = "model_index.json"
# Arguments of a pipeline's call that are the painter's own, so that `call` can't give them.
OWN = (
    *("prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "width", "height", "generator"),
    *("image", "strength", "latents", "num_images_per_prompt", "output_type", "return_dict", "callback_on_step_end"),
)


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
    """A text-to-image pipeline with its settings: steps, guidance and licence belong to each model.

    Any pipeline of diffusers that makes pictures of prompts will do: what its call takes is what it is given.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        variant: str | None = None,
        steps: int = 50,
        scheduler: str | None = None,
        guidance_scale: float = 7.5,
        width: int | None = None,
        height: int | None = None,
        prompt_template: str = "{caption}",
        negative_prompt: str | None = None,
        call: Mapping[str, Any] | None = None,
        lora: str | None = None,
        lora_revision: str | None = None,
        lora_scale: float = 1.0,
        start: str | None = None,
        strength: float | None = None,
        licence: str | None = None,
        safety_checker: bool = True,
        dtype: str | None = None,
        offload: str = "auto",
        tiling: bool = False,
        device: str | torch.device | None = None,
    ) -> None:
        """Load a pipeline.

        Args:
            model: Hub id or local folder in diffusers' format, or `embedded` for the small one that comes with a2i.
            revision: branch, tag or commit on the Hub.
            variant: of the weights' files, such as `fp16`, where the model has several.
            steps: denoising steps.
            scheduler: class of diffusers that takes the steps, such as `DPMSolverMultistepScheduler`, with the settings of the
                model's own; None for the model's own.
            guidance_scale: of classifier-free guidance (Ho and Salimans 2022), or what a distilled model takes for it; none
                at 1 and below, where a model that was not distilled draws twice as fast.
            width: of the picture in pixels; None for the model's own.
            height: likewise.
            prompt_template: with `{caption}` where the caption goes.
            negative_prompt: what the picture should not show; of effect where there is guidance, see `remarks`.
            call: further arguments of the pipeline's call, such as `max_sequence_length` or `true_cfg_scale`.
            lora: low-rank change of the weights (Hu et al. 2022): a safetensors file, a folder with one, or a Hub id, with the
                file's name behind it where that is not `pytorch_lora_weights.safetensors`.
            lora_revision: branch, tag or commit of a LoRA on the Hub.
            lora_scale: how much of the LoRA is added.
            start: picture that every drawing begins as, or that a model such as FLUX.2 goes by; cut to the size that is drawn.
            strength: how much of `start` is changed, above 0 and up to 1; None for 0.6. Only so much of the steps is taken.
            licence: of the weights; shown with the model.
            safety_checker: use the model's, if it has one.
            dtype: of the weights: `float32`, `bfloat16` or `float16`; None for float32, but on CUDA for what the model was
                made for: float16 for U-Nets, bfloat16 for transformers.
            offload: on CUDA, where the model lies between its steps: `none`, on the card; `model`, a part at a time on the
                card; `sequential`, a layer at a time, which is slow; `auto`, the first of these for which there is room.
            tiling: decode a picture in tiles: less memory, and faint seams.
            device: None for CUDA where there is one, else Apple's GPU, else the CPU.

        Raises:
            ValueError: a setting does not fit, the model can't be had, or the card is too small for it.
            FileNotFoundError: there is no such picture to begin with.
            ImportError: there is a LoRA, and peft is not installed.
        """
        check_painter(steps, guidance_scale, width, height, prompt_template, lora_scale)
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
        if offload not in OFFLOADS:
            raise ValueError(f"got offload={offload!r}; expected one of {', '.join(OFFLOADS)}")
        self.offload = offload
        start_picture.check(strength, start, steps)
        begin = None if start is None else start_picture.read(start)
        self._drawing = threading.Lock()  # a scheduler counts its steps: two threads would count together
        if lora is not None and find_spec("peft") is None:
            raise ImportError("peft is not installed, through which a LoRA is read: pip install 'a2i[lora]'")
        device = find_device(device)
        source = str(MINI_PAINTER) if model == "embedded" else model
        parts = _parts(source, revision)
        self._is_transformer = "transformer" in parts
        pipeline = _load(
            source, revision, variant, safety_checker or "safety_checker" not in parts, self._dtype_on(device)
        )
        _taken(pipeline)
        if scheduler is not None:
            pipeline.scheduler = exchanged(pipeline.scheduler, scheduler, steps)
        if lora is not None:
            add_lora(pipeline, lora, lora_revision, lora_scale)
        if tiling:
            if not hasattr(getattr(pipeline, "vae", None), "enable_tiling"):
                raise ValueError(f"got tiling=true; expected false: {type(pipeline).__name__} can't decode in tiles")
            pipeline.vae.enable_tiling()
        self._begin = None
        if begin is not None:
            pipeline = start_picture.pipeline_for(pipeline, strength, steps, self._dtype_on(device))
            self._begin = start_picture.fitted(begin, pipeline, width, height)
        self.strength = start_picture.STRENGTH if strength is None else strength
        self._takes = _taken(pipeline)
        self.call = _checked(call or {}, self._takes, type(pipeline).__name__)
        if MIDDLE in self._takes and steps != 2:
            self.call[MIDDLE] = None
        self.pipeline = pipeline
        self.to(device)

    def to(self, device: str | torch.device) -> "Painter":
        """Move the pipeline to a device.

        Raises:
            ValueError: the device can't be used here, or is too small for the model.
        """
        device = find_device(device)
        offload = "none" if self.offload == "auto" else self.offload
        if device.type == "cuda":
            pixels = (self.width or 1024) * (self.height or 1024)
            free = free_for(self.pipeline, device)
            offload = chosen_offload(self.offload, weights_of(self.pipeline), pixels, free, self.name)
        elif offload != "none":
            raise ValueError(f"got offload={offload} on {device}; expected auto or none: it is for CUDA")
        lay_out(self.pipeline, device, self._dtype_on(device), offload)
        return self

    def _dtype_on(self, device: torch.device) -> torch.dtype:
        if self.dtype is not None:
            return DTYPES[self.dtype]
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if self._is_transformer else torch.float16

    @property
    def is_guided(self) -> bool:
        """Whether the model draws each step twice, with the prompt and with the negative one, so that the latter counts."""
        scale = self.guidance_scale
        if "true_cfg_scale" in self._takes:  # of models whose `guidance_scale` is a number that they were trained with
            scale = self.call.get("true_cfg_scale", self._takes["true_cfg_scale"].default)
        return "negative_prompt" in self._takes and scale > 1

    @property
    def remarks(self) -> tuple[str, ...]:
        """What of the settings has no effect with this model, each in one line."""
        if self.negative_prompt is None or self.is_guided:
            return ()
        why = "draws without guidance" if "negative_prompt" in self._takes else "takes no negative prompt"
        return (f"{self.name} {why}, so that image.negative_prompt has no effect",)

    def draw(self, caption: str, seed: int = 0, show_progress: bool = False) -> Drawing:
        """Draw a caption. The same caption, seed and settings give the same picture on the same kind of machine.

        Args:
            caption: a sentence.
            seed: of the noise that the picture begins as.
            show_progress: a bar over the denoising steps.
        """
        return self.draw_batch([caption], [seed], show_progress)[0]

    def draw_batch(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        show_progress: bool = False,
        on_step: Callable[[int], None] | None = None,
    ) -> list[Drawing]:
        """Draw several captions at once; a picture is the one that `draw` gives, but for the rounding of a batch's sums.

        Args:
            captions: sentences.
            seeds: as many.
            show_progress: a bar on the terminal.
            on_step: called after each denoising step with the number of steps done, where the pipeline allows it; an
                exception that it raises ends the drawing.

        Raises:
            ValueError: the card has too little memory.
        """
        prompts = [self.prompt_template.replace("{caption}", caption) for caption in captions]
        arguments: dict[str, Any] = {
            "negative_prompt": [self.negative_prompt] * len(prompts)
            if self.negative_prompt and self.is_guided
            else None,
            "guidance_scale": self.guidance_scale,
            "width": self.width,
            "height": self.height,
        }
        if self._begin is not None:
            to_change = "strength" in self._takes
            arguments |= {"image": [self._begin] * (len(prompts) if to_change else 1), "strength": self.strength}
        if on_step is not None:

            def step_ended(_pipeline: Any, step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
                on_step(step + 1)
                return values

            arguments["callback_on_step_end"] = step_ended
        with self._drawing:
            self.pipeline.set_progress_bar_config(disable=not show_progress, leave=False, desc="drawing")
            try:
                output = self.pipeline(
                    prompt=list(prompts),  # some write into it
                    num_inference_steps=self.steps,
                    # On the CPU, so that a seed means the same noise with every device; one each, so that neighbours change
                    # nothing.
                    generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                    **{name: value for name, value in arguments.items() if value is not None and name in self._takes},
                    **self.call,
                )
            except torch.OutOfMemoryError as error:
                raise no_room(self.name, len(prompts), error) from error
        flagged = getattr(output, "nsfw_content_detected", None) or [None] * len(prompts)
        return [
            Drawing(image.convert("RGB"), prompt, flag)
            for image, prompt, flag in zip(output.images, prompts, flagged, strict=True)
        ]

    def tokens_over(self, caption: str) -> int:
        """Tokens of the caption's prompt that no text model will see: most cut prompts silently, CLIP at 77 tokens.

        Where a model has several text models, the one that reads furthest counts. What a chat model's template puts around a
        prompt does not.
        """
        prompt = self.prompt_template.replace("{caption}", caption)
        over = [
            len(tokenizer(prompt, truncation=False)["input_ids"]) - self._reads(tokenizer)
            for name, tokenizer in self.pipeline.components.items()
            if name.startswith("tokenizer") and tokenizer is not None
        ]
        return max(0, min(over, default=0))

    def _reads(self, tokenizer: Any) -> int:
        """Tokens at which a prompt is cut."""
        if "max_sequence_length" in self._takes and not type(tokenizer).__name__.startswith("CLIP"):
            return int(self.call.get("max_sequence_length", self._takes["max_sequence_length"].default))
        return int(tokenizer.model_max_length)


def _taken(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """What the call of a pipeline takes.

    Raises:
        ValueError: it makes something else than pictures of prompts.
    """
    takes = inspect.signature(type(pipeline).__call__).parameters
    if "prompt" not in takes or "num_inference_steps" not in takes:
        raise ValueError(f"got a {type(pipeline).__name__}; expected a pipeline that makes pictures of prompts")
    return takes


def _checked(call: Mapping[str, Any], takes: Mapping[str, inspect.Parameter], kind: str) -> dict[str, Any]:
    offered = [name for name in takes if name not in (*OWN, "self", "args", "kwargs")]
    if unknown := [name for name in call if name not in offered]:
        own = f", and what has a setting of its own: {', '.join(OWN)}" if set(unknown) & set(OWN) else ""
        raise ValueError(f"got call.{unknown[0]}; expected what {kind} takes: {', '.join(offered)}{own}")
    return dict(call)


def _parts(source: str, revision: str | None) -> dict[str, Any]:
    """What a model is made of, as its index lists it."""
    import diffusers
    from huggingface_hub import hf_hub_download

    file = Path(source) / INDEX
    if file.parent.is_dir() and not file.is_file():
        raise ValueError(f"{source}: no {INDEX} there; expected a folder in diffusers' format")
    try:
        if not file.is_file():
            hub.look_up(source, revision, INDEX)
            file = Path(hf_hub_download(source, INDEX, revision=revision))
        parts = dict(json.loads(file.read_text(encoding="utf-8")))
        with _without_remarks():
            known = hasattr(diffusers, str(kind := parts.get("_class_name")))  # imports it
        if not known:
            raise ValueError(f"it is a {kind}, which diffusers {diffusers.__version__} does not have")
        return parts
    except (*hub.failures(), ValueError) as error:
        raise _not_to_be_had(source, error) from error


def _not_to_be_had(source: str, error: Exception) -> ValueError:
    return ValueError(
        f"{source}: could not load a picture model ({hub.why(error)}); expected a Hub id, which"
        " needs the network once, or a local folder in diffusers' format. image=mini needs neither"
    )


def _load(source: str, revision: str | None, variant: str | None, safety_checker: bool, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    # Bars over the parts that load.
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    off: dict[str, Any] = {} if safety_checker else {"safety_checker": None, "requires_safety_checker": False}
    try:
        hub.look_up(source, revision, "model_index.json")
        with _without_remarks():
            return DiffusionPipeline.from_pretrained(
                source,
                revision=revision,
                variant=variant,
                dtype=dtype,
                use_safetensors=True,
                **off,
            )
    except (*hub.failures(), ValueError) as error:
        raise _not_to_be_had(source, error) from error


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Without transformers' remark that torchvision, which nothing here needs, is not installed."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
