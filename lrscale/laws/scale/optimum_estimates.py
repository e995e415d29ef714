"""The numbers that a fitted law of an optimum says, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lrscale.laws.base import FloatArray, Interval
from lrscale.laws.scale.optimum_data import Design, OptimumData
from lrscale.laws.scale.optimum_draws import OptimumEstimate
from lrscale.laws.scale.optimum_fit import Quantity
from lrscale.laws.scale.optimum_law import BATCH, PowerOptimum
from lrscale.laws.separable_fit import Estimate


def _interval(values: FloatArray, confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    lo, hi = (float(end) for end in np.percentile(values, [tail, 100 - tail]))
    return Interval(lo, hi, confidence)


def estimates_of(
    found: OptimumEstimate, design: Design, centre: Mapping[str, float], quantity: Quantity, confidence: float
) -> tuple[Estimate, ...]:
    """Return the parameters that the design determines, with intervals; an end that reaches its bound is open."""
    unit = "LR" if quantity == "lr" else "batch size"
    rows = []
    lower, upper = found.law.bounds
    for i, name in enumerate(found.law.parameters):
        value, draws = float(found.theta[i]), found.draws[:, i]
        if name == "log_c":
            rows.append(
                Estimate(
                    name="c",
                    value=math.exp(value),
                    interval=_interval(np.exp(draws), confidence),
                    unit=unit,
                    meaning="optimum at the geometric mean of the cells, of a large batch for the saturating law",
                )
            )
        elif name in design.used:
            if name in design.determined:
                meaning = f"exponent of {name}"
                rows.append(
                    Estimate(name=f"e_{name}", value=value, interval=_interval(draws, confidence), meaning=meaning)
                )
        else:
            shift = math.log(centre[BATCH]) if name == "log_knee" else 0.0
            bounds = float(lower[i]) + shift, float(upper[i]) + shift
            rows.append(_bounded(name, value + shift, draws + shift, bounds, confidence))
    return tuple(rows)


_SHAPES = {
    "alpha": ("alpha", "exponent of the batch size far below the knee"),
    "log_knee": ("knee", "batch size at which the optimum stops rising, at the centre"),
    "knee_exponent": ("knee_exponent", "exponent of the knee against the horizon"),
}


def _bounded(name: str, value: float, draws: FloatArray, bounds: tuple[float, float], confidence: float) -> Estimate:
    """Return a shape parameter of the saturating law; an end that reaches its bound is open."""
    label, meaning = _SHAPES[name]
    both = _interval(draws, confidence)
    reach = 1e-3 * (bounds[1] - bounds[0])
    low = both.lo is not None and both.lo <= bounds[0] + reach
    high = both.hi is not None and both.hi >= bounds[1] - reach
    turn = math.exp if name == "log_knee" else float
    ends = [None if open_end or end is None else turn(end) for open_end, end in ((low, both.lo), (high, both.hi))]
    return Estimate(
        name=label,
        value=None if low or high else turn(value),
        interval=Interval(ends[0], ends[1], confidence),
        unit="batch size" if name == "log_knee" else "",
        meaning=meaning,
    )


def derived_of(
    found: OptimumEstimate, design: Design, data: OptimumData, quantity: Quantity, confidence: float
) -> tuple[Estimate, ...]:
    """Return exponents along lines, and the factor at unit variables."""
    rows = []
    for first, rest in design.lines:
        if first not in found.law.parameters:
            continue
        i = found.law.parameters.index(first)
        follows = " and ".join(f"{name} follows {first}^{power:.2f}" for name, power in rest)
        rows.append(
            Estimate(
                name=f"{first}_with_{'_'.join(name for name, _ in rest)}",
                value=float(found.theta[i]),
                interval=_interval(found.draws[:, i], confidence),
                meaning=f"exponent of {first} while {follows}",
            )
        )
    if isinstance(found.law, PowerOptimum) and not design.refused:
        table = np.vstack([found.theta[None], found.draws])
        level = table[:, 0] - table[:, 1:] @ data.centre
        with np.errstate(over="ignore"):
            level = np.exp(level)
        if np.isfinite(level).all():
            rows.append(
                Estimate(
                    name="factor",
                    value=float(level[0]),
                    interval=_interval(level[1:], confidence),
                    unit="LR" if quantity == "lr" else "batch size",
                    meaning="optimum at unit variables, the constant that papers print",
                )
            )
    return tuple(rows)
