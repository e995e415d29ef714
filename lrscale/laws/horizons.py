"""The best LR and the loss against the length of training, at one batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from lrscale.laws.base import FitStatus, finite_or_none
from lrscale.laws.lr_slice.slice_fit import LRSliceFit
from lrscale.laws.scale import OptimumFit, fit_loss_scaling, fit_optimum_scaling
from lrscale.laws.separable_fit import LawFit

_RESAMPLES = 200
_FEWEST = 2
HORIZON = "examples"
"""Name of the variable in the laws."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a law that was fitted without the longest horizon says of it."""

    horizon: float
    predicted: float
    lo: float
    hi: float
    measured: float

    @property
    def miss(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the measured value lies in the prediction's interval."""
        return self.lo <= self.measured <= self.hi

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping; an end that is open is None."""
        plain = {name: finite_or_none(getattr(self, name)) for name in self.__slots__}
        return {**plain, "miss": finite_or_none(self.miss), "inside": self.inside}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonFit:
    """Laws of the best LR and of the final loss against the horizon, each with its miss at the longest one."""

    lr: OptimumFit | None
    """``lr = c (examples / centre)^e``, at the one batch size; None without two horizons."""
    lr_held_out: HeldOut | None
    """None where fewer than three shorter horizons have their best LR inside."""
    loss: LawFit | None
    """``loss = E + A examples^-alpha``, of runs near the best LR of each horizon; None without
    two horizons."""
    loss_held_out: HeldOut | None


def fit_horizons(
    slices: Mapping[float, LRSliceFit], losses: Mapping[float, Mapping[int, float]], batch_size: int
) -> HorizonFit:
    """Fit both laws to several horizons.

    Parameters
    ----------
    slices : mapping of float to LRSliceFit
        LR slice by horizon, in examples.
    losses : mapping of float to mapping
        By horizon the losses of runs near its best LR, by seed.
    batch_size : int
        Of all runs. At a fixed batch the best LR falls with the horizon, along the best batch it may rise (Bjorck et
        al. 2024, arXiv:2409.19913; Li et al. 2025, arXiv:2503.04715): so the law holds at this one.

    Returns
    -------
    HorizonFit
        The laws carry a status with a reason where the horizons are too few.

    Examples
    --------
    >>> from lrscale.laws import fit_lr_slice
    >>> lrs = [2.0**-k for k in range(12, 3, -1)]
    >>> slices = {}
    >>> for horizon in (1e4, 2e4, 4e4, 8e4):
    ...     best = 0.01 * (horizon / 1e4) ** -0.3
    ...     slices[horizon] = fit_lr_slice(lrs, [2 + best / lr / 9 + lr / best / 9 for lr in lrs])
    >>> fit = fit_horizons(slices, {}, 64)
    >>> round(fit.lr.estimate("e_examples").value, 2), round(abs(fit.lr_held_out.miss), 2)
    (-0.3, 0.0)
    """
    longest = max(slices, default=0.0)
    shorter = {horizon: own for horizon, own in slices.items() if horizon != longest}
    lr = _fit_lr(slices, batch_size)
    loss = _fit_loss(losses)
    last = slices.get(longest)
    lr_held_out = None
    if last is not None and last.best_lr is not None:
        lr_held_out = _held_out(_fit_lr(shorter, batch_size), longest, last.best_lr)
    loss_held_out = None
    ends = list(losses.get(longest, {}).values())
    if ends:
        without = {horizon: own for horizon, own in losses.items() if horizon != longest}
        loss_held_out = _held_out(_fit_loss(without), longest, sum(ends) / len(ends))
    return HorizonFit(lr=lr, lr_held_out=lr_held_out, loss=loss, loss_held_out=loss_held_out)


def _fit_lr(slices: Mapping[float, LRSliceFit], batch_size: int) -> OptimumFit | None:
    rows: list[tuple[float, float, float, int]] = []
    for horizon, own in slices.items():
        side = {FitStatus.OK: 0, FitStatus.CENSORED_HIGH: 1, FitStatus.CENSORED_LOW: -1}.get(own.status)
        if side is None or own.vertex is None:
            continue
        draws = np.asarray(own.vertex_draws)
        spread = float(np.subtract(*np.percentile(draws, [84.13, 15.87]))) / 2 if draws.size else 0.0
        trained = [lr for lr, loss in zip(own.lr, own.loss, strict=True) if loss is not None]
        place = math.exp(own.vertex)
        if side:
            place = max(trained) if side > 0 else min(trained)
        rows.append((horizon, place, max(spread, 1e-3) ** 2, side))
    if len(rows) < _FEWEST:
        return None
    horizons, places, variances, sides = (list(column) for column in zip(*rows, strict=True))
    return fit_optimum_scaling(
        places,
        {HORIZON: horizons},
        variance=variances,
        censored=sides,
        batch=float(batch_size),
        horizon=HORIZON,
        resamples=_RESAMPLES,
        holdout=False,
    )


def _fit_loss(losses: Mapping[float, Mapping[int, float]]) -> LawFit | None:
    rows = [(horizon, seed, loss) for horizon, own in losses.items() for seed, loss in own.items() if loss > 0]
    if len({horizon for horizon, _, _ in rows}) < _FEWEST:
        return None
    return fit_loss_scaling(
        [1.0] * len(rows),
        [horizon for horizon, _, _ in rows],
        [loss for _, _, loss in rows],
        cluster=[f"{horizon:g} {seed}" for horizon, seed, _ in rows],
        resamples=_RESAMPLES,
        holdout=False,
    )


def _held_out(fit: OptimumFit | LawFit | None, horizon: float, measured: float) -> HeldOut | None:
    if fit is None or not fit.draws or (isinstance(fit, OptimumFit) and not fit.ok):
        return None
    name = HORIZON if isinstance(fit, OptimumFit) else "size"
    value, lo, hi = fit.predict({name: [horizon]})
    if not math.isfinite(float(value[0])):
        return None
    return HeldOut(horizon=horizon, predicted=float(value[0]), lo=float(lo[0]), hi=float(hi[0]), measured=measured)
