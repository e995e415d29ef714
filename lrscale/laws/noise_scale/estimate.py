"""The gradient noise scale: tr(Sigma) / |G|^2, in examples, from the micro-gradients of training steps."""

from __future__ import annotations

import math

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray, check_confidence
from lrscale.laws.noise_scale.gradient_sums import GradientSums
from lrscale.laws.noise_scale.judge import Averages, Scope, judge
from lrscale.laws.noise_scale.result import NoiseScale, NoiseScaleStatus, without_answer

BLOCKS = 256
"""Blocks of neighbouring steps whose differences give the interval; fewer where there are fewer steps. Many, because
the averages drift within a block: with 32 the interval of a steep descent covers 100 % instead of 95 %."""
LEAST_STEPS = 10
"""Fewest steps with an answer; the Student quantile of fewer blocks makes every interval useless."""
LEAST_DF = 3.0
"""Degrees of freedom of the Student quantile where a single difference seems to carry all of the variance."""
EQUAL = 1e-5
"""Relative spread of a step's micro-gradients below which they are the same up to the rounding of float32."""
WINDOWS = 8
"""Windows of the course over training."""


def noise_scale(sums: GradientSums, *, confidence: float = 0.95, blocks: int = BLOCKS) -> NoiseScale:
    """Estimate the noise scale over a stretch of training: both averages apart, divided last.

    Parameters
    ----------
    sums : GradientSums
        The measured steps, of any mixture of layouts.
    confidence : float, optional
        Coverage of the interval. Default 0.95.
    blocks : int, optional
        Blocks of neighbouring steps, at least 4. Default 256. Fewer are used where there are fewer steps.

    Returns
    -------
    NoiseScale
        What it estimates is the ratio of the averages of tr(Sigma) and ``|G|^2`` along the steps that were taken. The
        interval is Fieller's (1954), which knows that a denominator may be 0, with the covariance of the block means
        from their successive differences (von Neumann 1941): given the path, the errors of the steps are independent,
        and the drift of both averages over training is not an error. A lower bound alone is reported where
        ``se(|G|^2) > 0.3 |G|^2`` or where the interval has no upper end; its own confidence is (1 + confidence) / 2.

    Raises
    ------
    LrscaleError
        When `confidence` or `blocks` is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(0, 1 / np.sqrt(8), (400, 4, 50))  # tr(Sigma) = 50, micro-gradients of 8 examples
    >>> gradients = 0.5 + noise  # |G|^2 = 12.5
    >>> found = noise_scale(
    ...     GradientSums(
    ...         step=np.arange(400), count=np.full(400, 4), examples=np.full(400, 8),
    ...         mean_square=np.sum(gradients**2, axis=2).mean(axis=1),
    ...         square_mean=np.sum(gradients.mean(axis=1) ** 2, axis=1),
    ...     )
    ... )
    >>> found.status.value, round(found.value, 2), found.interval.contains(4.0)
    ('ok', 3.98, True)
    """
    check_confidence(confidence)
    if blocks < 4:
        raise LrscaleError(f"blocks is {blocks}", hint="use at least 4")
    steps = len(sums)
    if steps < LEAST_STEPS:
        reason = f"{steps} measured steps, and at least {LEAST_STEPS} are needed"
        return without_answer(NoiseScaleStatus.TOO_FEW_STEPS, reason, sums, confidence)
    if float(np.sum(sums.mean_square)) == 0:
        return without_answer(NoiseScaleStatus.NOT_MEASURED, "every gradient was 0", sums, confidence)
    if np.sum(sums.mean_square - sums.square_mean) <= EQUAL * np.sum(sums.mean_square):
        reason = "the micro-gradients of a step are equal, as when ranks are given the same examples"
        return without_answer(NoiseScaleStatus.NOT_MEASURED, reason, sums, confidence)
    averages = _block_statistics(sums, min(blocks, steps))
    # Var(|G|^2) of a step is 2 tr(Sigma^2) / weight where noise outweighs the gradient.
    square_trace = averages.covariance[0, 0] * np.sum(sums.weight) / 2
    return judge(
        averages,
        Scope(
            steps=steps,
            first_step=int(sums.step[0]),
            last_step=int(sums.step[-1]),
            micro_gradients=float(np.median(sums.count)),
            global_batch_size=float(np.median(sums.count * sums.examples)),
        ),
        effective_dimension=float(averages.noise_trace**2 / square_trace) if square_trace > 0 else None,
        confidence=confidence,
    )


def noise_scale_course(
    sums: GradientSums, *, windows: int = WINDOWS, confidence: float = 0.95, blocks: int = BLOCKS
) -> tuple[NoiseScale, ...]:
    """Estimate the noise scale in consecutive windows of equally many steps.

    Parameters
    ----------
    sums, confidence, blocks
        As in `noise_scale`.
    windows : int, optional
        At least 1. Default 8. Fewer are used where a window would hold fewer than 10 steps.

    Returns
    -------
    tuple of NoiseScale
        In the order of training; ``first_step`` and ``last_step`` say where each stands.
    """
    if windows < 1:
        raise LrscaleError(f"windows is {windows}", hint="use at least 1")
    used = max(1, min(windows, len(sums) // LEAST_STEPS))
    edges = np.linspace(0, len(sums), used + 1).round().astype(int)
    return tuple(
        noise_scale(sums[lo:hi], confidence=confidence, blocks=blocks)
        for lo, hi in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )


def steps_for(
    noise_scale: float,
    *,
    global_batch_size: float,
    micro_gradients: int,
    effective_dimension: float,
    relative_error: float,
) -> int:
    """Return the steps that resolve a noise scale to a relative error, before anything is measured.

    Parameters
    ----------
    noise_scale, global_batch_size : float
        In examples.
    micro_gradients : int
        n of a step, at least 2.
    effective_dimension : float
        ``tr(Sigma)^2 / tr(Sigma^2)``, at least 1.
    relative_error : float
        Standard error over value.

    Returns
    -------
    int
        ``2 (B_simple / B)^2 n / (n - 1) / (relative_error^2 effective_dimension)``, the leading term where the batch is
        well below the noise scale, from the variance of the U-statistic, ``2 tr(Sigma^2) / (b^2 n (n - 1))``.

    Examples
    --------
    >>> steps_for(20000, global_batch_size=512, micro_gradients=8, effective_dimension=100, relative_error=0.3)
    388
    """
    if micro_gradients < 2 or min(noise_scale, global_batch_size, effective_dimension, relative_error) <= 0:
        raise LrscaleError(
            f"micro_gradients is {micro_gradients}, and one of the other numbers may not be positive",
            hint="a step needs 2 micro-gradients, and all numbers are positive",
        )
    ratio = noise_scale / global_batch_size
    spread = micro_gradients / (micro_gradients - 1)
    return max(1, math.ceil(2 * ratio**2 * spread / (relative_error**2 * effective_dimension)))


def _block_statistics(sums: GradientSums, blocks: int) -> Averages:
    """Return the averages of (|G|^2, tr Sigma) over the steps, with their errors."""
    weight = sums.weight
    passed = np.cumsum(weight) / np.sum(weight)
    # Blocks of about equal weight; a step that outweighs a block leaves the next one empty.
    place = np.minimum((passed - 0.5 * weight / np.sum(weight)) * blocks, blocks - 1).astype(int)
    _, place = np.unique(place, return_inverse=True)
    used = int(place.max()) + 1
    values = np.stack([sums.squared_gradient, sums.noise_trace])
    mass = np.bincount(place, weights=weight)
    table = np.stack([np.bincount(place, weights=weight * row) / mass for row in values])
    means: FloatArray = table @ mass / mass.sum()
    # Block means have a variance of sigma^2 / mass each.
    differences = np.diff(table, axis=1) / np.sqrt(1 / mass[1:] + 1 / mass[:-1])
    per_mass = differences @ differences.T / (used - 1)
    # Satterthwaite's degrees of freedom, as the spread of the squared differences shows them: a few steps with a large
    # gradient may carry all of the variance. Normal differences have a fourth moment of 3, and neighbouring ones share
    # a step, which leaves 2 K / 3 of K (von Neumann 1941).
    squares = differences**2
    df = 2 * squares.sum(axis=1) ** 2 / np.maximum((squares**2).sum(axis=1), np.finfo(float).tiny)
    return Averages(means, per_mass / mass.sum(), float(np.clip(df, LEAST_DF, 2 * used / 3).min()))
