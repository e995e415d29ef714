"""How far the trials of a sweep lie from their fitted slices, in units of what each fit expects of them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

RESIDUALS, BY_BATCH, BY_ZONE = "residuals", "residuals_by_batch", "residuals_by_zone"
"""Where the rows of trials, batch sizes and zones of the LR lie in the tables of the finding on scaling."""

Zone = Literal["below", "around", "above"]
ZONES: tuple[Zone, ...] = ("below", "around", "above")
AROUND = 2.0
"""LRs within this factor of the best one are around it; those further out below or above."""
ALARM = 0.05 / 3
"""Probability that a question is answered with a misfit where there is none. There are three: do the LR means lie on
the curve, does a trial stand out, is a trend with the LR left."""
_READ = ("ok", "poor_fit")
# Degrees of freedom of residuals are approximate, and with few of them the bound is next to what no residual can pass:
# of simulated studies of right curves 21 % had a residual beyond the 5 % bound with 1.5 degrees, 7 % beyond the 1.7 %
# bound with 3.
_FEWEST_RESIDUAL_DF = 5.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FitResiduals:
    """Rows of the trials that were fitted, of the batch sizes, and of the zones of the LR."""

    trials: tuple[dict[str, Any], ...]
    batches: tuple[dict[str, Any], ...]
    zones: tuple[dict[str, Any], ...]

    @property
    def tables(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """The rows by the names that they have in a finding."""
        return {RESIDUALS: self.trials, BY_BATCH: self.batches, BY_ZONE: self.zones}


def fit_residuals(cells: Iterable[Mapping[str, Any]]) -> FitResiduals:
    """Return how far the trials lie from the curves of their slices, and how far chance alone would put them.

    Slices are those with their optimum inside, and those that the fit gave up since no curve describes them.

    Parameters
    ----------
    cells : iterable of mapping
        ``batch_size`` and ``slice`` (of `LRSliceFit.to_dict`), as in the finding on scaling.

    Notes
    -----
    The LR means are held against the F distribution of lack of fit, at `ALARM` over the number of slices. The largest
    residual of a slice is held against the bound of Lund, since the noise that it is measured in is in part its own;
    where weights of outliers were reduced, the noise is without them and the bound is Student's.

    References
    ----------
    .. [1] Lund. "Tables for an approximate test for outliers in linear models." Technometrics 17 (1975).

    Examples
    --------
    >>> runs = {"status": "ok", "vertex": 0.69, "lr": [1, 2, 4], "residual": [0.1, -0.3, 0.2], "noise_sd": 0.1}
    >>> runs |= {"residual_sd": [0.1] * 3, "noise_df": 5.0, "noise_source": "residuals"}
    >>> found = fit_residuals([{"batch_size": 64, "slice": runs}])
    >>> [round(row["standardised"], 3) for row in found.trials], found.batches[0]["lr"]
    ([1.0, -3.0, 2.0], 2)
    """
    pairs = []
    for cell in cells:
        fit = cell.get("slice") or {}
        if own := _trial_rows(cell["batch_size"], fit):
            pairs.append((fit, own))
    trials = [row for _, own in pairs for row in own]
    batches = tuple(_batch_row(fit, own, slices=len(pairs), trials=len(trials)) for fit, own in pairs)
    return FitResiduals(trials=tuple(trials), batches=batches, zones=_zone_rows(trials))


def _trial_rows(size: int, fit: Mapping[str, Any]) -> list[dict[str, Any]]:
    if fit.get("status") not in _READ or fit.get("vertex") is None or not fit.get("noise_sd"):
        return []
    outliers = set(fit.get("outliers") or ())
    columns = (fit["lr"], fit["residual"], fit.get("residual_sd") or (), fit.get("seeds") or itertools.repeat(None))
    return [
        {
            "batch_size": size,
            "lr": lr,
            "relative_lr": lr / math.exp(fit["vertex"]),
            "seed": seed,
            "residual": residual,
            "expected": sd,
            "standardised": residual / sd,
            "outlier": place in outliers,
        }
        for place, (lr, residual, sd, seed) in enumerate(zip(*columns, strict=False))
        if residual is not None and sd
    ]


def _batch_row(fit: Mapping[str, Any], own: Sequence[Mapping[str, Any]], *, slices: int, trials: int) -> dict[str, Any]:
    farthest = max(own, key=lambda row: abs(row["standardised"]))
    row: dict[str, Any] = {
        "batch_size": own[0]["batch_size"],
        "trials": len(own),
        "read": fit["status"] == "ok",
        "noise": fit.get("noise_source"),
        "misfit": None,
        "misfit_chance": None,
        "miss": None,
        "largest": farthest["standardised"],
        "lr": farthest["lr"],
        "seed": farthest["seed"],
        "largest_chance": _largest_by_chance(fit, trials),
        "outliers": sum(one["outlier"] for one in own),
    }
    if fit.get("misfit") is not None:
        from scipy.special import fdtri

        ratio, (means, replicates) = float(fit["misfit"]), fit["misfit_df"]
        row["misfit"] = math.sqrt(ratio)
        row["misfit_chance"] = math.sqrt(float(fdtri(means, replicates, 1 - ALARM / slices)))
        # What the trials at one LR miss together counts once for each of them.
        share = len({one["lr"] for one in own}) / len(own)
        row["miss"] = float(fit["noise_sd"]) * math.sqrt(max(ratio - 1, 0.0) * share)
    return row


def _largest_by_chance(fit: Mapping[str, Any], trials: int) -> float | None:
    """Return what the largest of so many residuals stays below but for `ALARM` of studies; None where that is open."""
    from scipy.special import stdtrit

    df, tail = float(fit["noise_df"]), ALARM / (2 * trials)
    if fit.get("outliers"):
        return float(stdtrit(df, 1 - tail))
    unit = 1.0
    if fit.get("misfit") is not None:
        # Replicates and LR means together: the largest residual has a part in each.
        means, replicates = fit["misfit_df"]
        df = means + replicates
        unit = math.sqrt((replicates + means * fit["misfit"]) / df)
    elif df < _FEWEST_RESIDUAL_DF:
        return None
    t = float(stdtrit(df - 1, 1 - tail))
    return unit * t * math.sqrt(df / (df - 1 + t * t))


def _zone_rows(trials: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the mean residual of each zone; the intervals hold together but for `ALARM` of studies (Bonferroni)."""
    from scipy.special import stdtrit

    # Trials at one LR share what the curve misses there, so that they count once.
    at: dict[Zone, dict[tuple[int, float], list[float]]] = {zone: defaultdict(list) for zone in ZONES}
    for row in trials:
        at[_zone(row["relative_lr"])][row["batch_size"], row["lr"]].append(row["standardised"])
    rows = []
    for zone in ZONES:
        means = np.array([float(np.mean(values)) for values in at[zone].values()])
        if means.size == 0:
            continue
        lo = hi = None
        middle = float(means.mean())
        if means.size > 1:
            error = float(means.std(ddof=1)) / math.sqrt(means.size)
            half = float(stdtrit(means.size - 1, 1 - ALARM / (2 * len(ZONES)))) * error
            lo, hi = middle - half, middle + half
        count = sum(map(len, at[zone].values()))
        rows.append({"zone": zone, "rates": int(means.size), "trials": count, "mean": middle, "lo": lo, "hi": hi})
    return tuple(rows)


def _zone(relative: float) -> Zone:
    if relative < 1 / AROUND:
        return "below"
    return "above" if relative > AROUND else "around"
