"""Fit laws of the loss against the step to the curves of several schedules."""

from __future__ import annotations

from collections.abc import Sequence

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.laws.annealing.curve import Curve
from lrscale.laws.annealing.curve_law_fit import CurveLawFit
from lrscale.laws.annealing.schedule_law import SCHEDULE_LAWS
from lrscale.laws.annealing.study import Study, clearly_better
from lrscale.laws.base import check_confidence


def fit_loss_curves(
    curves: Sequence[Curve],
    *,
    law: str | None = None,
    held_out: str | None = None,
    confidence: float = 0.95,
) -> CurveLawFit:
    """Fit a law of the loss against the step, aware of the schedule, to whole curves.

    Both laws are fitted by variable projection with Huber's loss on ln(loss). With three or more schedules each is left
    out in turn; the law with more parameters (the multi-power law) is returned if its error on schedules that it has
    not seen is smaller beyond chance, the other one otherwise. The error within the sample decides nothing: it favours
    the law with more parameters, and ranks the two wrongly. Points of one curve are never drawn again: they share
    their noise.

    Nothing is drawn at random; the same curves give the same fit.

    Parameters
    ----------
    curves : sequence of Curve
        At least two schedules with one peak LR, of which one drops its LR abruptly (by 20 % of the peak while the step
        count grows by 10 %): after one cosine alone, alpha may be anything from 0.34 to 1.17. Runs of one schedule
        with several seeds are left out together. Diverged curves are left out.
    law : {"tissue", "multi_power"} or None, optional
        Fit this law only. Default None: choose.
    held_out : str or None, optional
        Name of a curve to keep out of the fit altogether, with all curves of its schedule; its error is reported.
        Default None.
    confidence : float, optional
        Of the intervals. Defaults to 0.95.

    Returns
    -------
    CurveLawFit
        Status ``too_few_points`` with fewer than two schedules or five points on a curve; ``not_identifiable`` without
        an abrupt drop, with different peak LRs, or with the exponent at its bound; ``poor_fit`` when schedules that
        were left out are missed by more than half of the spread of the losses; ``all_diverged``.

    Raises
    ------
    LrscaleError
        For no curves, two of one name, or an unknown law or curve name.

    References
    ----------
    .. [1] Tissue, Wang, Wang. "Scaling law with learning rate annealing." arXiv:2408.11029 (2024).
    .. [2] Luo, Wen, Hu, Sun, et al. "A multi-power law for loss curve prediction across learning rate schedules."
       arXiv:2503.12811 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> from lrscale.laws.annealing.trace import LRTrace
    >>> step = np.arange(50, 1001, 25)
    >>> shapes = {"constant": np.ones(1000), "drop": np.where(np.arange(1000) < 600, 1.0, 0.2)}
    >>> curves = []
    >>> for name, shape in shapes.items():
    ...     trace = LRTrace.from_steps(1e-3 * shape)
    ...     loss = 2 + trace.area_at(step) ** -0.5 - 100 * (1e-3 - trace.lr_at(step)) * (1 - np.exp(-(step - 600) / 50))
    ...     curves.append(Curve(name=name, trace=trace, step=step, loss=loss))
    >>> fit = fit_loss_curves(curves)
    >>> fit.status.value, round(fit.estimate("alpha").value, 2)
    ('ok', 0.5)
    >>> fit.can_rank(curves[0].trace, curves[1].trace)
    True
    """
    check_confidence(confidence)
    names = [curve.name for curve in curves]
    if not names:
        raise LrscaleError("no curves to fit", hint="give the curves of two or more schedules")
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise LrscaleError(f"two curves are named {doubled}", hint="give each its own name")
    if held_out is not None and held_out not in names:
        raise LrscaleError(f"no curve is named {held_out}", hint=did_you_mean(held_out, names))
    kinds = SCHEDULE_LAWS.values() if law is None else [SCHEDULE_LAWS[law]]
    laws = [kind.name for kind in sorted(kinds, key=lambda kind: len(kind.parameters))]
    study = Study.of(curves, held_out)
    problem = study.problem()
    if problem is not None:
        status, reason = problem
        return CurveLawFit(
            law=laws[0],
            formula=SCHEDULE_LAWS[laws[0]].formula,
            status=status,
            reason=reason,
            curves=tuple(curve.name for curve in study.fitted),
            n_schedules=len(set(study.numbers)),
            n_points=sum(curve.fitted_step.size for curve in study.fitted),
            notes=study.notes,
            confidence=confidence,
        )
    found = [study.fit(SCHEDULE_LAWS[name]) for name in laws]
    best = found[0]
    for one in found[1:]:
        best = one if clearly_better(one, best) else best
    others = [one for one in found if one is not best]
    return study.result(best, min(others, key=lambda one: one.error or 0.0) if others else None, confidence)
