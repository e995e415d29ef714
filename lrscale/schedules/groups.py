"""From one peak LR to the LR of every parameter group: the rule that trials and training jobs share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.errors import LrscaleError


def group_base_lr(group: Mapping[str, Any]) -> float:
    """Return the LR that a parameter group stands for, whatever its scheduler has done to ``lr`` so far.

    A one-cycle scheduler keeps the peak in ``max_lr`` and starts far below it; every other scheduler of torch keeps
    the LR that the optimizer was built with in ``initial_lr``; without a scheduler it is ``lr``.

    Parameters
    ----------
    group : mapping
        One of ``optimizer.param_groups``.

    Returns
    -------
    float
        ``max_lr`` if the group has one, else ``initial_lr``, else ``lr``.

    Raises
    ------
    LrscaleError
        When the group has none of them, or when it is negative or not finite.

    Examples
    --------
    >>> group_base_lr({"lr": 0.004, "initial_lr": 0.004, "max_lr": 0.1})
    0.1
    """
    for key in ("max_lr", "initial_lr", "lr"):
        if group.get(key) is not None:
            lr = float(group[key])
            if not (math.isfinite(lr) and lr >= 0):
                raise LrscaleError(f"{key} of a parameter group is {lr}", hint="an LR must be finite and not negative")
            return lr
    raise LrscaleError("a parameter group has no lr", hint="return torch optimizers from configure_optimizers")


def scaled_lrs(base_lrs: Sequence[float], reference: float, peak_lr: float, factor: float) -> list[float]:
    """Return the LR of every group when the reference group runs at ``peak_lr * factor``.

    Ratios between groups survive: a group that its author set to a tenth of the first one stays at a tenth.

    Parameters
    ----------
    base_lrs : sequence of float
        `group_base_lr` of every group of every optimizer.
    reference : float
        `group_base_lr` of the first group of the first optimizer, positive: the group that `peak_lr` is the LR of.
    peak_lr : float
        LR of the reference group at factor 1.
    factor : float
        The schedule's multiplier at this step.

    Returns
    -------
    list of float
        One LR per entry of `base_lrs`.

    Raises
    ------
    LrscaleError
        When the reference is 0: no factor reaches a peak from there.

    Examples
    --------
    >>> scaled_lrs([0.5, 0.25], reference=0.5, peak_lr=2.0, factor=0.5)
    [1.0, 0.5]
    """
    if not (math.isfinite(reference) and reference > 0):
        raise LrscaleError(
            f"the LR of the first parameter group is {reference:g}, so the other groups have no ratio to it",
            hint="build the first optimizer's first group with a positive LR",
        )
    lr = peak_lr * factor
    return [lr if base == reference else base / reference * lr for base in base_lrs]


def momentum_setting(group: Mapping[str, Any], momentum: float) -> dict[str, Any]:
    """Return what to change in a parameter group to give it a momentum.

    Parameters
    ----------
    group : mapping
        One of ``optimizer.param_groups``.
    momentum : float
        What the schedule asks for, in [0, 1).

    Returns
    -------
    dict
        ``{"betas": ...}`` with the first beta replaced for Adam's family, ``{"momentum": ...}`` for SGD's, and an
        empty one for optimizers that have neither (``torch.optim.lr_scheduler.OneCycleLR`` makes the same choice).

    Examples
    --------
    >>> momentum_setting({"lr": 0.1, "betas": (0.9, 0.999)}, 0.85)
    {'betas': (0.85, 0.999)}
    """
    if "betas" in group:
        return {"betas": (momentum, *tuple(group["betas"])[1:])}
    return {"momentum": momentum} if "momentum" in group else {}
