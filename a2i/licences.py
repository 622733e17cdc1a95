"""What a licence says of commercial use: the one rule for all models."""

import re

NON_COMMERCIAL = "not for commercial use"
CONDITIONAL = "commercial use has conditions"
# `nc` as a part of a licence's name (cc-by-nc-4.0, sai-nc-community), and the words that others use. NSCL:
# NVIDIA's source code licence, for research and evaluation.
_NEVER = re.compile(
    r"\bnc\b|non[- ]?commercial|not for commercial|no commercial use|research[- ](only|alone|purposes)"
    r"|(research|personal|evaluation)[- ](use[- ])?only|(only|alone) for research|academic(?![- ]free)|\bnscl\b"
)
# Licences by which whoever earns more than a sum has to ask, as Stability AI's community licence (1 M USD a year).
_SOMETIMES = re.compile(r"revenue|stability\W?ai\W*(ai\W)?community")


def restriction(licence: str | None) -> str | None:
    """What is said beside a result that a model with this licence made; None where nothing restricts commercial use, or no
    licence is known.

    Args:
        licence: as a model card or a configuration names it.
    """
    text = (licence or "").lower().replace("_", "-")
    if _NEVER.search(text):
        return NON_COMMERCIAL
    return CONDITIONAL if _SOMETIMES.search(text) else None
