"""The scheduler that takes a picture model's steps, exchanged for another that fits what the model was trained with."""

import inspect
import warnings
from typing import Any

import torch

from a2i.errors import one_line

# Of a scheduler: what the model was trained with, so that another one must not leave it out.
TRAINED_WITH = ("prediction_type", "beta_schedule", "rescale_betas_zero_snr")
# For models, or LoRAs, that were distilled for them, which no setting of a model tells: used when named, never offered.
DISTILLED = ("LCMScheduler", "TCDScheduler")


def exchanged(own: Any, name: str, steps: int) -> Any:
    """The scheduler of that name, with the settings of the model's own.

    Raises:
        ValueError: there is none of that name that could draw with this model in so many steps.
    """
    import diffusers
    from diffusers import SchedulerMixin

    if name == type(own).__name__:
        return own
    # A class that lacks a setting keeps it in its `config` all the same, without heeding it, and may draw blots: ask its
    # signature. Stand-ins for classes whose packages are not installed are no SchedulerMixin.
    needed = [setting for setting in TRAINED_WITH if own.config.get(setting)]
    distilled = [getattr(diffusers, each) for each in DISTILLED] if needed else []
    fitting = {
        each.__name__: each
        for each in [*own.compatibles, *distilled]
        if issubclass(each, SchedulerMixin) and not set(needed) - inspect.signature(each).parameters.keys()
    }
    said = "it is none that takes the model's settings"
    if name in fitting:
        try:
            _try(fitting[name], own, steps)
            return _made(fitting[name], own)
        except ValueError as error:
            said = str(error)
    offered = [each for each in sorted(fitting) if each not in (name, *DISTILLED) and _draws(fitting[each], own, steps)]
    others = (
        f", or a class of diffusers that takes its settings ({', '.join(needed)}) and so many steps: {', '.join(offered)}"
        if offered
        else ", the only one that draws with this model"
    )
    raise ValueError(
        f"got scheduler={name} with steps={steps}: {said}; expected null for the model's own, {type(own).__name__}{others}"
    )


def _draws(kind: Any, own: Any, steps: int) -> bool:
    try:
        _try(kind, own, steps)
    except ValueError:
        return False
    return True


def _made(kind: Any, own: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers' own use of NumPy
        return kind.from_config(own.config)


def _try(kind: Any, own: Any, steps: int) -> None:
    """Take the steps of a scheduler of that kind once on a few numbers, as a pipeline takes them.

    Not every kind does everything that its settings can ask for, nor in any number of steps, and only then says so.

    Raises:
        ValueError: it can't take them, or they end in numbers that are none.
    """
    try:
        scheduler = _made(kind, own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
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
