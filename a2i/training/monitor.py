"""The value by which a run's best checkpoint is chosen, and by which runs are compared."""

from typing import Any


def monitored(config: dict[str, Any]) -> tuple[str, str]:
    """The logged value by which the best checkpoint is chosen, and whether `max` or `min` of it is best.

    Raises:
        ValueError: nothing of that name is logged at validation.
    """
    from a2i.metrics.registry import monitors

    asked = [*(["bertscore"] if config["bertscore"] is not None else []), *(config["training"]["metrics"] or ())]
    modes = {"val/loss": "min", "val/distinct_captions": "max"} | monitors(asked)
    name = config["monitor"] or ("val/loss" if config["bertscore"] is None else "val/bertscore_f1")
    if name not in modes:
        raise ValueError(f"got monitor={name}; expected one of {', '.join(modes)}")
    return name, modes[name]
