"""Whether a law of the loss against the step, fitted to shorter horizons, predicts the longest one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from lrscale.laws.annealing import Curve, LRTrace, fit_loss_curves
from lrscale.laws.annealing.study import FEWEST_POINTS
from lrscale.laws.base import FloatArray
from lrscale.laws.horizons import HeldOut
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.horizons.trunks import Trunks


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CurveCheck:
    """A schedule law fitted to the trunk and its shorter cooldowns, and the longest one beside it."""

    held_out: HeldOut | None
    """The last loss of the longest horizon; None where no law was fitted."""
    law: str
    schedules: int
    """That the law was fitted to."""
    reason: str
    """One sentence: how the fit ended."""


def curve_check(context: Context, trunks: Trunks, lr: float) -> CurveCheck | None:
    """Return what a schedule law says of the longest horizon at one LR; None where its runs are not there.

    The laws (Tissue et al. 2024, arXiv:2408.11029; Luo et al. 2025, arXiv:2503.12811) need two schedules at one peak LR
    of which one drops its LR abruptly: a trunk and a cooldown are these.
    """
    curves = list(_curves(context, trunks, lr))
    longest = str(trunks.horizons[-1])
    if len(curves) < 2 or curves[-1].name != longest:
        return None
    fit = fit_loss_curves(curves, held_out=longest)
    told = CurveCheck(held_out=None, law=fit.law, schedules=fit.n_schedules, reason=fit.reason)
    if not fit.ok:
        return told
    value, lo, hi = fit.predict(curves[-1].trace)
    one = HeldOut(
        horizon=float(trunks.horizons[-1] * trunks.batch_size),
        predicted=float(value[0]),
        lo=float(lo[0]),
        hi=float(hi[0]),
        measured=float(curves[-1].loss[-1]),
    )
    return CurveCheck(held_out=one, law=fit.law, schedules=fit.n_schedules, reason=fit.reason)


def _curves(context: Context, trunks: Trunks, lr: float) -> Iterator[Curve]:
    parts = [context.ended(part) for part in trunks.trunk(context, lr, 0)]
    trunk = [part for part in parts if part is not None and part.record.status == "completed"]
    if len(trunk) < len(parts):
        return
    seen = [_validations(context, part) for part in trunk]
    steps, losses = (np.concatenate(column) for column in zip(*seen, strict=True))
    flat = _curve("constant", trunk[-1].spec, steps, losses)
    if flat is not None:
        yield flat
    for horizon in trunks.horizons:
        cooled = context.ended(trunks.cooldown(context, lr, 0, horizon))
        if cooled is None or cooled.record.status != "completed":
            continue
        before = steps <= trunks.branch_position(horizon)
        own_steps, own_losses = _validations(context, cooled)
        whole = _curve(
            str(horizon),
            cooled.spec,
            np.concatenate([steps[before], own_steps]),
            np.concatenate([losses[before], own_losses]),
        )
        if whole is not None:
            yield whole


def _validations(context: Context, trial: Trial) -> tuple[FloatArray, FloatArray]:
    steps, losses = context.view.load_trajectory(trial.trial_id).points("val_loss")
    return steps, losses


def _curve(name: str, spec: TrialSpec, steps: FloatArray, losses: FloatArray) -> Curve | None:
    schedule, fine = spec.lr_schedule, np.isfinite(losses) & (losses > 0)
    after = fine & (steps > spec.schedule.warmup_steps)
    if schedule is None or int(np.sum(after)) < FEWEST_POINTS or not math.isfinite(spec.peak_lr):
        return None
    rates = np.array([spec.peak_lr * schedule.factor(step, spec.horizon) for step in range(spec.horizon)])
    at, first = np.unique(steps[after], return_index=True)
    return Curve(name=name, trace=LRTrace.from_steps(rates), step=at, loss=losses[after][first])
