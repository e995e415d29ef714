"""By which power of the batch the LR follows it, as the optimizer has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POWERS = {"linear": 1.0, "square_root": 0.5, "none": 0.0}
PLAIN = frozenset({"SGD"})
"""Optimizers whose step is as long as the gradient."""


def lr_power(rule: str, facts: Mapping[str, Any]) -> float:
    """Return the power of a rule; that of ``auto`` is linear for SGD and the square root for other optimizers.

    The noise of SGD goes with LR / batch (Smith et al. 2018, arXiv:1711.00489), that of Adam and others whose step does
    not shrink with the gradient with LR / sqrt(batch) (Malladi et al. 2022, arXiv:2205.10287).

    Examples
    --------
    >>> lr_power("auto", {"optimizers": ["SGD"]}), lr_power("auto", {"optimizers": ["AdamW"]})
    (1.0, 0.5)
    """
    if rule != "auto":
        return POWERS[rule]
    optimizers = facts.get("optimizers") or []
    return POWERS["linear" if optimizers and set(optimizers) <= PLAIN else "square_root"]
