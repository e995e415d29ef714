"""How the gradients of two layouts of the same global batch are related."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from lrscale.study.layout_check.probe import SINGLE_ROUNDOFF, FloatArray, Probe, ProbedStep, tolerance_of

Relation = Literal["same", "scaled", "reweighted", "mixed", "other_loss"]
RELATIONS: tuple[Relation, ...] = ("same", "other_loss", "scaled", "reweighted", "mixed")
"""From simple to involved."""

DRIFT = 10.0
"""What later steps may differ by, in units of the tolerance: an adaptive optimizer turns rounding errors of gradients
near zero into whole steps."""
PARAMETER_FACTOR = 100.0
"""What the gradient of one parameter may differ by, in units of the tolerance: within one of them more cancels."""
NEGLIGIBLE = 1e-3
"""A parameter whose gradient is smaller than this share of the others', element by element, is not judged alone: what
is zero but for rounding, such as a bias before a normalisation, has no relative accuracy."""
EXPLAINED = 10.0
"""What an explanation may leave over, in units of the tolerance."""
LEAST_EXPLAINED = 2e-3
"""What it may leave over in any case: where gradients truly differ, parameters soon do."""
CLEAR = 10.0
"""How many times what is left over a scale or a weight must be away from what it would be in the mean."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepDifference:
    """One step of a layout against the same step of the reference."""

    loss: float | None
    """Relative to the mean size of the micro-batches' losses; None without losses."""
    gradient: float
    """Norm of the difference relative to the larger of both gradients and of the micro-batches' gradients."""
    parameter: str | None
    """The parameter with the largest relative difference among those that are not negligible."""
    parameter_difference: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A layout against the reference, over the steps that both have."""

    steps: tuple[StepDifference, ...]
    tolerance: float
    relation: Relation
    scale: float | None = None
    """The reference's gradient is this many times the other's, where it is ``"scaled"``."""
    weights: tuple[float, ...] = ()
    """Weights of the micro-batches in the reference's gradient, where it is ``"reweighted"``; equal ones would be one
    over their number."""
    residual: float | None = None
    """What scale or weights leave unexplained, relative to the gradient."""
    step: int = 0
    """The step that the relation was read from, counted from 1; 0 where nothing differs."""

    @property
    def gradient_difference(self) -> float:
        """The largest over the steps."""
        return max(step.gradient for step in self.steps)

    @property
    def loss_difference(self) -> float | None:
        """The largest over the steps; None without losses."""
        return max((step.loss for step in self.steps if step.loss is not None), default=None)


def compare(reference: Probe, other: Probe) -> Comparison | None:
    """Compare two layouts step by step.

    Parameters
    ----------
    reference, other : Probe
        Trials of the same seed and the same global batches.

    Returns
    -------
    Comparison or None
        None when no step can be compared: parameters differ, or no gradient is finite in both.
    """
    if reference.names != other.names or reference.sizes.tolist() != other.sizes.tolist():
        return None
    pairs = [
        (number, ours, theirs)
        for number, (ours, theirs) in enumerate(zip(reference.steps, other.steps, strict=False))
        # The AMP scaler leaves out steps whose gradients overflow, and the parameters stay as they are.
        if ours.finite and theirs.finite and ours.sketches.shape == theirs.sketches.shape
    ]
    if not pairs:
        return None
    tolerance = max(reference.tolerance, other.tolerance)
    steps = tuple(_difference(reference, ours, theirs) for _, ours, theirs in pairs)
    for place, (number, ours, theirs) in enumerate(pairs):
        allowed = tolerance * (DRIFT if number else 1.0)
        if not _agrees(steps[place], allowed):
            return _related(steps, tolerance, allowed, place, number, ours, theirs, other)
    return Comparison(steps=steps, tolerance=tolerance, relation="same")


def _agrees(step: StepDifference, allowed: float) -> bool:
    return (
        step.gradient <= allowed
        # Modules that train in double precision may still sum their loss in single.
        and (step.loss is None or step.loss <= max(allowed, tolerance_of(SINGLE_ROUNDOFF)))
        and step.parameter_difference <= PARAMETER_FACTOR * allowed
    )


def _difference(probe: Probe, ours: ProbedStep, theirs: ProbedStep) -> StepDifference:
    apart = np.linalg.norm(ours.sketches - theirs.sketches, axis=1)
    scale = max(_norm(ours.sketches), _norm(theirs.sketches), _micro_norm(ours), _micro_norm(theirs))
    roots = np.sqrt(np.maximum(probe.sizes, 1.0))
    sizes = np.maximum(ours.norms, theirs.norms)
    typical = np.linalg.norm(sizes) / np.sqrt(max(1.0, probe.sizes.sum()))
    judged = (sizes / roots > NEGLIGIBLE * typical) & (sizes > 0)
    relative = np.where(judged, apart / np.where(sizes > 0, sizes, 1.0), 0.0)
    worst = int(relative.argmax()) if relative.size else -1
    return StepDifference(
        loss=_loss_difference(ours.losses, theirs.losses),
        gradient=float(np.linalg.norm(apart) / scale) if scale > 0 else 0.0,
        parameter=probe.names[worst] if worst >= 0 and judged[worst] else None,
        parameter_difference=float(relative[worst]) if worst >= 0 else 0.0,
    )


def _loss_difference(ours: FloatArray, theirs: FloatArray) -> float | None:
    if not ours.size or not theirs.size:
        return None
    size = max(float(np.abs(ours).mean()), float(np.abs(theirs).mean()))
    return abs(float(ours.mean() - theirs.mean())) / size if size > 0 else 0.0


def _norm(values: FloatArray) -> float:
    return float(np.linalg.norm(values))


def _micro_norm(step: ProbedStep) -> float:
    return 0.0 if step.micro is None else float(np.linalg.norm(step.micro, axis=1).mean())


def _related(
    steps: tuple[StepDifference, ...],
    tolerance: float,
    allowed: float,
    place: int,
    number: int,
    ours: ProbedStep,
    theirs: ProbedStep,
    other: Probe,
) -> Comparison:
    """Explain the first step that differs."""
    left_over = max(EXPLAINED * allowed, LEAST_EXPLAINED)

    def made(relation: Relation, **values: Any) -> Comparison:
        return Comparison(steps=steps, tolerance=tolerance, relation=relation, step=number + 1, **values)

    first = steps[place]
    if first.gradient <= allowed and first.parameter_difference <= PARAMETER_FACTOR * allowed:
        return made("other_loss")
    size = _norm(ours.sketches)
    squared = float((theirs.sketches**2).sum())
    if size > 0 and squared > 0:
        scale = float((ours.sketches * theirs.sketches).sum()) / squared
        residual = _norm(ours.sketches - scale * theirs.sketches) / size
        if residual <= left_over and abs(scale - 1) > max(CLEAR * residual, tolerance):
            return made("scaled", scale=scale, residual=residual)
    found = fit_weights(ours.whole, theirs.micro)
    if found is not None and size > 0:
        weights, residual = found
        even = 1.0 / other.micro_batches
        unequal = float(np.abs(weights / even - 1).max())
        if residual <= left_over and unequal > max(CLEAR * residual, tolerance):
            return made("reweighted", weights=tuple(float(one) for one in weights), residual=residual)
    return made("mixed")


def fit_weights(whole: FloatArray, micro: FloatArray | None) -> tuple[FloatArray, float] | None:
    """Return the weights with which micro-batches' gradients make up another, and what is left, by least squares.

    Parameters
    ----------
    whole : array of shape (64,)
        Sketch of the gradient to explain.
    micro : array of shape (micro-batches, 64) or None
        Sketches of the gradients of its parts.

    Returns
    -------
    (array of shape (micro-batches,), float) or None
        The residual is relative to `whole`. None where there is nothing to fit, or fewer numbers than four a weight.
    """
    if micro is None or len(micro) < 2 or 4 * len(micro) > len(whole):
        return None
    size = _norm(whole)
    if size == 0 or not np.isfinite(micro).all() or not np.isfinite(whole).all():
        return None
    solved, *_ = np.linalg.lstsq(micro.T, whole, rcond=1e-10)
    weights: FloatArray = np.asarray(solved, dtype=np.float64)
    return weights, _norm(whole - weights @ micro) / size
