"""One noise scale from several runs of the same setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrscale.errors import LrscaleError
from lrscale.laws.noise_scale.judge import Averages, Scope, judge
from lrscale.laws.noise_scale.result import NoiseScale


def combine_noise_scales(parts: Sequence[NoiseScale]) -> NoiseScale:
    """Average ``|G|^2`` and tr(Sigma) over runs, each by its measured steps, and divide last.

    Parameters
    ----------
    parts : sequence of NoiseScale
        At least one, of one confidence. Runs without numbers, which had too few measured steps, are left out.

    Returns
    -------
    NoiseScale
        The ratio of the averages over all steps of all runs, with Fieller's interval: the errors of runs of different
        seeds are independent, so that their variances add; the degrees of freedom are Welch's (1947). One run is
        returned as it is, and so is the first where none has numbers.

    Raises
    ------
    LrscaleError
        Without parts, or with parts of different confidence.

    Examples
    --------
    >>> from lrscale.laws.noise_scale import GradientSums, noise_scale
    >>> def run(seed):
    ...     gradients = 0.5 + np.random.default_rng(seed).normal(0, 1 / np.sqrt(8), (100, 4, 50))
    ...     return noise_scale(
    ...         GradientSums(
    ...             step=np.arange(100), count=np.full(100, 4), examples=np.full(100, 8),
    ...             mean_square=np.sum(gradients**2, axis=2).mean(axis=1),
    ...             square_mean=np.sum(gradients.mean(axis=1) ** 2, axis=1),
    ...         )
    ...     )
    >>> both = combine_noise_scales([run(0), run(1)])
    >>> both.steps, both.interval.contains(4.0), both.relative_se < run(0).relative_se
    (200, True, True)
    """
    if not parts:
        raise LrscaleError("there is no noise scale to combine")
    if len({part.confidence for part in parts}) > 1:
        raise LrscaleError("the noise scales have intervals of different confidence", hint="combine those of one")
    known = [part for part in parts if part.squared_gradient is not None]
    if len(known) < 2:
        return known[0] if known else parts[0]
    weight = np.array([part.steps for part in known], dtype=np.float64)
    weight /= weight.sum()
    table = np.array([[part.squared_gradient, part.noise_trace] for part in known], dtype=np.float64)
    errors = np.array(
        [[part.squared_gradient_se or 0.0, part.noise_trace_se or 0.0, part.covariance or 0.0] for part in known]
    )
    variances = weight[:, None] ** 2 * errors[:, :2] ** 2
    between = float(weight**2 @ errors[:, 2])
    (first, second), df = variances.sum(axis=0), np.array([part.degrees_of_freedom or 1.0 for part in known])
    welch = variances.sum(axis=0) ** 2 / np.maximum((variances**2 / df[:, None]).sum(axis=0), np.finfo(float).tiny)
    means = weight @ table
    scope = Scope(
        steps=sum(part.steps for part in known),
        first_step=min(part.first_step or 0 for part in known),
        last_step=max(part.last_step or 0 for part in known),
        micro_gradients=float(np.median([part.micro_gradients or 0.0 for part in known])),
        global_batch_size=float(np.median([part.global_batch_size or 0.0 for part in known])),
    )
    squares = [
        (share, part.noise_trace**2 / part.effective_dimension)
        for share, part in zip(weight.tolist(), known, strict=True)
        if part.effective_dimension and part.noise_trace is not None
    ]
    square_trace = sum(share * one for share, one in squares) / (sum(share for share, _ in squares) or 1.0)
    return judge(
        Averages(means, np.array([[first, between], [between, second]]), float(np.maximum(welch, df.min()).min())),
        scope,
        effective_dimension=float(means[1] ** 2 / square_trace) if square_trace > 0 else None,
        confidence=known[0].confidence,
    )
