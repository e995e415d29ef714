"""The noise floor: how much the final loss varies between runs that differ only in their seed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc

from lrscale.laws.base import FloatArray, finite_or_none
from lrscale.laws.runs import Runs, read_runs


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """Pooled standard deviation of the loss at fixed LR, seed-block effects removed.

    Common random numbers make runs with the same seed share much of their noise; a common shift per seed does not move
    the best LR, so it is removed before pooling.
    """

    sd: float | None
    """Pooled standard deviation of one run; None without replicates."""
    df: int
    """Its degrees of freedom."""
    block_sd: float | None
    """Standard deviation between seed blocks; None with fewer than two blocks."""
    sd_at: tuple[tuple[float, float, int], ...]
    """(LR, standard deviation, runs) for each LR with two or more finished runs."""
    heteroscedastic: bool
    """Whether the residuals grow or shrink with the LR's mean loss more than chance allows (p < 0.01)."""

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "sd": finite_or_none(self.sd),
            "df": self.df,
            "block_sd": finite_or_none(self.block_sd),
            "sd_at": [list(row) for row in self.sd_at],
            "heteroscedastic": self.heteroscedastic,
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """Least-squares split of the losses into LR means, block levels and residuals."""

    lr_means: FloatArray
    """Mean of each distinct LR, block effects removed, shape (distinct LRs,)."""
    block_levels: FloatArray
    """Level of each block, shape (blocks,), summing to zero over the runs' blocks."""
    residuals: FloatArray
    """What is left, in standard deviations of a run of relative variance 1, shape (kept runs,)."""
    df: int
    """Degrees of freedom of the residuals."""


def decompose(runs: Runs, variance: FloatArray | None = None) -> Decomposition:
    """Fit LR means plus block levels to the finished runs.

    Parameters
    ----------
    runs : Runs
    variance : array of shape (kept runs,), optional
        Relative variance of each run. Default: equal for all.
    """
    kept = runs.kept
    x, loss = runs.lr[kept], runs.loss[kept]
    distinct, place = np.unique(x, return_inverse=True)
    blocks, _ = runs.blocks()
    design = np.column_stack([np.eye(distinct.size)[place], blocks])
    centre = loss.mean()
    # The design has one direction too many (a constant moves between LRs and blocks): least squares of minimum norm.
    weight = np.ones(loss.size) if variance is None else 1 / np.sqrt(variance)
    coefficients, _, rank, _ = np.linalg.lstsq(weight[:, None] * design, weight * (loss - centre), rcond=None)
    levels = coefficients[distinct.size :]
    shift = levels.mean()
    return Decomposition(
        lr_means=coefficients[: distinct.size] + centre + shift,
        block_levels=levels - shift,
        residuals=weight * (loss - centre - design @ coefficients),
        df=int(loss.size - rank),
    )


def noise_floor(
    lr: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    *,
    diverged: ArrayLike | None = None,
    seed: Sequence[Hashable] | ArrayLike | None = None,
) -> NoiseFloor:
    """Estimate the noise floor of a slice from its replicates.

    Parameters
    ----------
    lr, loss, diverged, seed
        As in `fit_lr_slice`. Diverged runs are left out.

    Returns
    -------
    NoiseFloor

    Examples
    --------
    >>> floor = noise_floor([1, 1, 2, 2], [3.0, 3.2, 3.1, 3.3], seed=[0, 1, 0, 1])
    >>> floor.df, abs(floor.sd) < 1e-9, round(floor.block_sd, 3)  # the two seeds differ by a constant
    (1, True, 0.141)
    """
    runs = read_runs(lr, loss, diverged, seed)
    if not runs.kept.any():
        return NoiseFloor(sd=None, df=0, block_sd=None, sd_at=(), heteroscedastic=False)
    parts = decompose(runs)
    kept_lr = runs.lr[runs.kept]
    distinct, place = np.unique(kept_lr, return_inverse=True)
    sd = float(np.sqrt(np.sum(parts.residuals**2) / parts.df)) if parts.df > 0 else None
    rows = []
    for i, value in enumerate(distinct):
        own = parts.residuals[place == i]
        if own.size > 1 and parts.df > 0:
            # Block levels use up degrees of freedom; each LR bears its share of them.
            share = own.size * parts.df / parts.residuals.size
            rows.append((float(value), float(np.sqrt(np.sum(own**2) / share)), int(own.size)))
    varies = False
    if parts.df >= 6 and sd:
        # Loaded where it is used: its import would take as long as planning does.
        from scipy.stats import spearmanr

        rank = spearmanr(np.abs(parts.residuals), parts.lr_means[place])
        varies = bool(rank.pvalue < 0.01)
    levels = parts.block_levels
    return NoiseFloor(
        sd=sd,
        df=parts.df,
        block_sd=float(np.std(levels, ddof=1)) if levels.size > 1 else None,
        sd_at=tuple(rows),
        heteroscedastic=varies,
    )


def variance_ratio_p(numerator: float, df_numerator: float, denominator: float, df_denominator: float) -> float:
    """Return the upper tail probability of the F distribution at a ratio of two mean squares."""
    if denominator <= 0:
        return 0.0 if numerator > 0 else 1.0
    return float(fdtrc(df_numerator, df_denominator, numerator / denominator))
