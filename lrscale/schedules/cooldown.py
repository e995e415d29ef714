"""Shapes of a decay, by which schedules with a stable phase end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.schedules.base import require_fraction

Decay = Literal["linear", "one_minus_sqrt", "cosine", "one_minus_square", "mirror_cosine", "exponential", "reciprocal"]

SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "linear": lambda share: 1 - share,
        "one_minus_sqrt": lambda share: 1 - math.sqrt(share),
        "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
        "one_minus_square": lambda share: 1 - share**2,
        "mirror_cosine": lambda share: 2 * (1 - share) - (1 + math.cos(math.pi * share)) / 2,
    }
)
"""Factors that fall from 1 to 0 as functions of the elapsed share in [0, 1]; Hägele et al. 2024 (arXiv:2405.18392)
compare them, with the mirrored cosine of their code."""

TO_FINAL: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "exponential": lambda share, final: final**share,
        "reciprocal": lambda share, final: 1 / (share / final + 1 - share),
    }
)
"""Factors that fall from 1 to a final one above 0 as functions of the elapsed share and of that; exponential as in
MiniCPM (arXiv:2404.06395), linear in the reciprocal as in WSD-S (Wen et al. 2024, arXiv:2410.05192)."""


def require_decay(decay: str, final_factor: float) -> None:
    """Raise unless a decay is known and reaches its final factor.

    Raises
    ------
    LrscaleError
        For an unknown shape, a factor outside of [0, 1], and one of 0 where the shape never gets there.
    """
    known = [*SHAPES, *TO_FINAL]
    if decay not in known:
        raise LrscaleError(f"unknown decay {decay}", hint=did_you_mean(decay, known))
    require_fraction("final_factor", final_factor, zero=True)
    if decay in TO_FINAL and final_factor == 0:
        raise LrscaleError(f"decay {decay} never reaches 0", hint="set a final_factor above 0, such as 0.1")


def cooldown(decay: str, share: float, final_factor: float) -> float:
    """Return the factor of a decay after a share of it; before it begins 1, and after its end the final factor.

    Examples
    --------
    >>> cooldown("linear", 0.5, 0.0), cooldown("exponential", 0.5, 0.01), cooldown("cosine", -1.0, 0.0)
    (0.5, 0.1, 1.0)
    """
    share = min(1.0, max(0.0, share))
    if decay in TO_FINAL:
        return float(TO_FINAL[decay](share, final_factor))
    return final_factor + (1 - final_factor) * SHAPES[decay](share)
