"""What follows from runs at fixed LR without being measured by them: rules judged, a one-cycle pair, a warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrscale.errors import LrscaleError
from lrscale.laws.range_test.confirmation import FixedRun, OneCyclePair, RuleAgreement, StableLR, WarmupAdvice
from lrscale.laws.range_test.local_slice import LocalSlice
from lrscale.laws.range_test.range_curve import RangeFinding

ONE_CYCLE_MEAN = 0.506
"""Mean factor of one cycle: a cosine from 1/25 to 1 over 0.3 of the steps and one to 4e-6 over the rest."""
ONE_CYCLE_START = 25.0
"""Peak over first LR of one cycle, as in torch."""


def rule_agreement(
    finding: RangeFinding,
    runs: Sequence[FixedRun],
    near: LocalSlice | None,
    lr: float | None,
    equivalence: tuple[float, float] | None,
) -> tuple[RuleAgreement, ...]:
    """Return what each rule suggested against the runs, nearest to the confirmed LR first."""
    tried = [run.lr for run in runs]
    trained = [run.lr for run in runs if run.loss is not None]
    rows = []
    for rule, own in finding.suggestions.items():
        if own.value is None or own.lo is None or own.hi is None:
            continue
        regret: tuple[float | None, float | None, float | None] = (None, None, None)
        if near is not None and lr is not None and min(trained) <= own.value <= max(trained):
            regret = near.regret(own.value) or regret
        rows.append(
            RuleAgreement(
                rule=rule,
                lr=own.value,
                lo=own.lo,
                hi=own.hi,
                tested=bool(tried) and min(tried) <= own.value <= max(tried),
                factor=None if lr is None else own.value / lr,
                equivalent=None if equivalence is None else equivalence[0] <= own.value <= equivalence[1],
                regret=regret[0],
                regret_lo=regret[1],
                regret_hi=regret[2],
            )
        )
    return tuple(sorted(rows, key=lambda row: 0.0 if row.factor is None else abs(math.log(row.factor))))


def one_cycle_pair(lr: float | None, stable: StableLR | None) -> OneCyclePair | None:
    """Return the LRs of one cycle with the mean of the confirmed LR; None without one."""
    if lr is None or stable is None:
        return None
    peak = min(lr / ONE_CYCLE_MEAN, stable.lo)
    return OneCyclePair(base=peak / ONE_CYCLE_START, max=peak, limited_by_stability=peak < lr / ONE_CYCLE_MEAN)


def warmup_advice(beta2: float | None, batch_size: int | None) -> WarmupAdvice | None:
    """Return the warm-up that beta2 asks for; None without one.

    Raises
    ------
    LrscaleError
        When beta2 is outside [0, 1).
    """
    if beta2 is None:
        return None
    if not 0 <= beta2 < 1:
        raise LrscaleError(f"beta2 must be in [0, 1), not {beta2}")
    steps = round(2 / (1 - beta2))
    return WarmupAdvice(steps=steps, examples=None if batch_size is None else steps * batch_size, beta2=beta2)
