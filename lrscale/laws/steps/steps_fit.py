"""Fit the steps to a target loss against the batch size: S_min, E_min and the critical batch size."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, get_args

from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus, check_confidence
from lrscale.laws.separable_fit import LawFit
from lrscale.laws.steps.hyperbola import STEPS_HYPERBOLA
from lrscale.laws.steps.steps_data import read_steps
from lrscale.laws.steps.steps_result import BatchUnit, StepsFit
from lrscale.laws.steps.steps_study import Study

_FEWEST_BATCHES = 3


def fit_steps_to_target(
    batch_sizes: ArrayLike,
    steps: ArrayLike,
    *,
    censored: ArrayLike | None = None,
    seed: Sequence[Hashable] | None = None,
    noise_sd: float | None = None,
    reference_batch: float | None = None,
    batch_unit: BatchUnit = "examples",
    confidence: float = 0.95,
    resamples: int = 1000,
    random_seed: int = 0,
) -> StepsFit:
    """Fit ``steps = S_min + E_min / batch`` to the steps that runs needed to reach one target loss.

    The fit is of ln(steps), by maximum likelihood: noise is a fraction of the steps, and on the raw scale the smallest
    batch sizes, which need the most steps and say nothing about S_min, decide alone. A run that did not reach the
    target is a one-sided term ln Phi. The interval of the critical batch size is the profile likelihood's, with
    quantiles of Student's t. Its noise is that of the batch sizes about the curve: the LR is tuned anew at each, so
    that its seeds share an error.

    Parameters
    ----------
    batch_sizes : array-like of shape (n,)
        Global batch size of each run, positive, in `batch_unit`. The LR must be tuned at each.
    steps : array-like of shape (n,)
        Steps to the target, positive (`steps_to_target`); the bound of a censored run.
    censored : array-like of shape (n,), optional
        True or 1: the run stopped at `steps` short of the target. -1: it was below the target from its first
        evaluation, at `steps`. Default None: every run reached it.
    seed : sequence of length n, optional
        Runs with one label share initialisation and order of examples, and so a part of their noise, which moves S_min
        and E_min together. Default None: runs are independent.
    noise_sd : float, optional
        Known standard deviation of ln(steps) between repeated runs. It is used unless the residuals contradict it at
        1 %. Default None: from the residuals.
    reference_batch : float, optional
        Batch size from which the 20 % definition counts. Default None: the smallest.
    batch_unit : {"examples", "sequences", "tokens"}, optional
        Defaults to ``"examples"``.
    confidence : float, optional
        Of the intervals. Defaults to 0.95.
    resamples : int, optional
        Parametric draws behind the intervals of S_min, E_min and of predictions. Defaults to 1000.
    random_seed : int, optional
        Defaults to 0.

    Returns
    -------
    StepsFit
        Derived numbers are ``critical_batch`` = E_min / S_min, where steps and data are twice their least [1]_;
        ``critical_batch_20`` = 0.2 critical_batch + 1.2 reference_batch, where steps are 20 % above a fall as 1 / batch
        from the reference [2]_; and ``gamma``, the exponent of ``S_min + E / batch^gamma``, 1 when the hyperbola holds.

        Status ``censored_high`` when the steps fall as 1 / batch throughout, so that the knee is only bounded from
        below; ``censored_low`` when they hardly fall; ``not_identifiable`` when neither side bounds it;
        ``too_few_points`` with fewer than three batch sizes at which a run reached the target; ``poor_fit`` when the
        whole interval of gamma is more than 10 % off 1.

    Raises
    ------
    LrscaleError
        For lengths that differ, a value that is not a positive number, or an unknown unit.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei. "An Empirical Model of Large-Batch Training." arXiv:1812.06162 (2018).
    .. [2] Zhang et al. "How Does Critical Batch Size Scale in Pre-training?" arXiv:2410.21676 (2024).

    Examples
    --------
    >>> batch = [64, 128, 256, 512, 1024, 2048]
    >>> fit = fit_steps_to_target(batch, [6350, 3330, 1760, 1010, 590, 398])
    >>> fit.status.value, round(fit.estimate("critical_batch").value, -1)
    ('ok', 1950.0)
    >>> few = fit_steps_to_target([64, 128], [6350, 3330])
    >>> few.status.value
    'too_few_points'
    """
    check_confidence(confidence)
    data = read_steps(batch_sizes, steps, censored, seed)
    for name, value in (("noise_sd", noise_sd), ("reference_batch", reference_batch)):
        if value is not None and not 0 < value < math.inf:
            raise LrscaleError(f"{name} {value} is not a positive number", hint="leave it out if it is not known")
    if batch_unit not in get_args(BatchUnit):
        raise LrscaleError(f"unknown batch_unit {batch_unit!r}", hint=f"use one of {', '.join(get_args(BatchUnit))}")
    if reference_batch is None and data.batch.size:
        reference_batch = float(data.batch.min())
    common: dict[str, Any] = {
        "law": STEPS_HYPERBOLA.name,
        "formula": STEPS_HYPERBOLA.formula,
        "n_points": data.batch.size,
        "n_clusters": data.n_cells,
        "observed": tuple(data.steps.tolist()),
        "inputs": {"batch": tuple(data.batch.tolist())},
        "confidence": confidence,
    }
    outer: dict[str, Any] = {
        "batch_unit": batch_unit,
        "reference_batch": reference_batch,
        "censored": tuple(data.side.tolist()),
    }
    reached = data.n_reached_cells
    if reached < _FEWEST_BATCHES:
        reason = (
            f"{int(data.reached.sum())} of {data.side.size} runs reached the target, at {reached} batch sizes; "
            f"the law needs {_FEWEST_BATCHES}"
        )
        return StepsFit(law=LawFit(status=FitStatus.TOO_FEW_POINTS, reason=reason, **common), **outer)
    study = Study.of(data, noise_sd, confidence, resamples, random_seed, batch_unit)
    assert reference_batch is not None
    law = study.law_fit(common, reference_batch)
    return StepsFit(law=law, trade_offs=study.trade_offs(), **outer)
