"""Laws across the groups of a sweep: loss, best LR and best batch size against model size and training data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from lrscale.laws import FitStatus, LRSliceFit
from lrscale.laws.scale import OptimumFit, fit_loss_scaling, fit_optimum_scaling
from lrscale.laws.separable_fit import LawFit
from lrscale.study.lr_answer import best_batch

MIN_GROUPS = 3
_SCALES = ("params", "tokens", "examples")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleCell:
    """One group with its scale."""

    label: str
    scale: Mapping[str, float]
    """``params`` and ``tokens`` (or ``examples``)."""
    fits: Mapping[float, LRSliceFit]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLaws:
    """What moves with scale. A law is None where the table does not say what it needs; `reason` says which."""

    reason: str
    """Why there are no laws against scale, or what they stand on."""
    loss: LawFit | None = None
    """Lowest loss of each group against params and tokens."""
    lr: OptimumFit | None = None
    """Best LR of every slice against params, tokens and the batch size."""
    batch: OptimumFit | None = None
    """Best batch size of each group against params and tokens."""
    cells: tuple[Mapping[str, Any], ...] = field(default=())
    """Scale, best LR, best batch size and loss of each group: what the figures draw."""

    @property
    def fits(self) -> dict[str, LawFit | OptimumFit]:
        """The laws that were tried, by name."""
        tried = {"loss": self.loss, "lr": self.lr, "batch": self.batch}
        return {name: fit for name, fit in tried.items() if fit is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        plain: dict[str, Any] = {"reason": self.reason, "cells": [dict(cell) for cell in self.cells]}
        for name in ("loss", "lr", "batch"):
            fit = self.fits.get(name)
            plain[name] = None if fit is None else fit.to_dict()
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScaleLaws:
        """Rebuild what `to_dict` wrote."""
        return cls(
            reason=data["reason"],
            cells=tuple(data["cells"]),
            loss=None if data["loss"] is None else LawFit.from_dict(data["loss"]),
            lr=None if data["lr"] is None else OptimumFit.from_dict(data["lr"]),
            batch=None if data["batch"] is None else OptimumFit.from_dict(data["batch"]),
        )


def fit_scale(
    cells: Sequence[ScaleCell], *, confidence: float, resamples: int, random_seed: int, holdout: bool
) -> ScaleLaws:
    """Fit the laws against scale that the groups can carry.

    The best LR is fitted at every batch size, with the batch size among the variables: against the horizon alone its
    exponent would mix the effect of the batch size, and can have the wrong sign.
    """
    names = [name for name in _SCALES if all(name in cell.scale for cell in cells)]
    if "tokens" in names and "examples" in names:
        names.remove("examples")
    if not names:
        return ScaleLaws(reason="The groups have neither params nor tokens, so that nothing can be fitted to scale.")
    if len(cells) < MIN_GROUPS:
        return ScaleLaws(reason=f"Laws against scale need {MIN_GROUPS} groups; there are {len(cells)}.")
    rows = [_row(cell, names) for cell in cells]
    known = [row for row in rows if row["loss"] is not None]
    if len(known) < MIN_GROUPS:
        return ScaleLaws(
            reason=f"Laws against scale need {MIN_GROUPS} groups with an optimum inside; there are {len(known)}.",
            cells=tuple(rows),
        )
    settings: dict[str, Any] = {
        "confidence": confidence,
        "resamples": resamples,
        "random_seed": random_seed,
        "holdout": holdout,
    }
    loss = None
    horizon = next((name for name in ("tokens", "examples") if name in names), None)
    if "params" in names and horizon is not None and all(row["loss"] > 0 for row in known):
        loss = fit_loss_scaling(
            [row["params"] for row in known],
            [row[horizon] for row in known],
            [row["loss"] for row in known],
            **settings,
        )
    return ScaleLaws(
        reason=f"{len(known)} groups, by {' and '.join(names)}.",
        loss=loss,
        lr=_lr_law(cells, names, horizon, settings),
        batch=_batch_law(known, names, horizon, settings),
        cells=tuple(rows),
    )


def _row(cell: ScaleCell, names: Sequence[str]) -> dict[str, Any]:
    best = best_batch(cell.fits)
    fit = None if best is None else cell.fits[best]
    inside = best is not None and min(cell.fits) < best < max(cell.fits)
    interval = None if fit is None else fit.interval
    return {
        "label": cell.label,
        **{name: cell.scale[name] for name in names},
        "best_lr": None if fit is None else fit.best_lr,
        "lo": None if interval is None else interval.lo,
        "hi": None if interval is None else interval.hi,
        "best_batch": best,
        "batch_side": 0 if best is None or inside or len(cell.fits) < 2 else (1 if best == max(cell.fits) else -1),
        "batch_step": None if best is None else _step(sorted(cell.fits), best),
        "loss": None if fit is None else fit.min_loss,
    }


def _step(sizes: Sequence[float], best: float) -> float:
    """Return the mean distance to the neighbours in ln(batch)."""
    place = sizes.index(best)
    near = [abs(math.log(sizes[other] / best)) for other in (place - 1, place + 1) if 0 <= other < len(sizes)]
    return sum(near) / len(near) if near else 0.0


def _lr_law(
    cells: Sequence[ScaleCell], names: Sequence[str], horizon: str | None, settings: Mapping[str, Any]
) -> OptimumFit | None:
    optimum, variance, side = [], [], []
    inputs: dict[str, list[float]] = {name: [] for name in (*names, "batch")}
    for cell in cells:
        for size, fit in cell.fits.items():
            if fit.vertex is None or not fit.vertex_draws:
                continue
            trained = [lr for lr, loss in zip(fit.lr, fit.loss, strict=True) if loss is not None]
            value, bound = math.exp(fit.vertex), 0
            if fit.status is FitStatus.CENSORED_HIGH:
                value, bound = min(value, max(trained)), 1
            elif fit.status is FitStatus.CENSORED_LOW:
                value, bound = max(value, min(trained)), -1
            elif fit.status is not FitStatus.OK:
                continue
            optimum.append(value)
            variance.append(float(np.var(fit.vertex_draws)))
            side.append(bound)
            for name in names:
                inputs[name].append(cell.scale[name])
            inputs["batch"].append(size)
    if side.count(0) < MIN_GROUPS:
        return None
    return fit_optimum_scaling(
        optimum, inputs, variance=variance, censored=side, horizon=horizon or "tokens", **settings
    )


def _batch_law(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], horizon: str | None, settings: Mapping[str, Any]
) -> OptimumFit | None:
    if all(row["batch_step"] == 0 for row in rows):
        return None
    return fit_optimum_scaling(
        [row["best_batch"] for row in rows],
        {name: [row[name] for row in rows] for name in names},
        # The best batch size of a grid lies anywhere within half a step of it.
        variance=[row["batch_step"] ** 2 / 12 for row in rows],
        censored=[row["batch_side"] for row in rows],
        quantity="batch",
        horizon=horizon or "tokens",
        **settings,
    )
