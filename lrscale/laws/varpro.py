"""Variable projection: fit a separable law by searching its shape only, robustly, for many data sets at once.

For each candidate shape the amplitudes are solved for exactly (non-negative least squares, reweighted for Huber's loss
and for residuals of the logarithm); the shape then follows by damped Gauss-Newton steps on what is left. Objectives are
sums in units of the noise, so that they are of order one: the mean of a Huber loss with threshold 1e-3 is of order
1e-6, at which the default tolerances of quasi-Newton optimizers stop far from the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lrscale.laws.base import FloatArray
from lrscale.laws.leverage import robust_sd
from lrscale.laws.non_negative import non_negative
from lrscale.laws.separable import AbstractSeparableLaw, Inputs

Residual = Literal["log", "linear"]
"""Residuals are ``log y - log prediction`` or ``y - prediction``."""

Rows = NDArray[np.intp]

# 95 % efficiency for normal residuals (Huber 1981).
HUBER = 1.345
_REWEIGHTINGS = 30
# Within a step of the shape: the next step goes on with the weights of this one, and reaches the same minimum.
_STEP_REWEIGHTINGS = 3
_RETHRESHOLDINGS = 3
_STEPS = 60
# Relative gain of the objective below which a search has arrived: for one data set, and for each of many resamples.
_SETTLED = 1e-12
_SETTLED_RESAMPLE = 1e-6
# The same for amplitudes: of a first guess, of a step (the next one goes on from there), of the second optimizer.
_SETTLED_GUESS = 1e-2
_SETTLED_STEP = 1e-6
_SETTLED_CHECK = 1e-10
# Mean squares of relative residuals below this are rounding errors.
_EXACT = 1e-24
_STIFF = 1e6
_KEPT_STARTS = 4
# Below this fraction of the data a prediction has no logarithm worth fitting.
_FLOOR = 1e-6
_AT_BOUND = 1e-6
_BEYOND = 0.1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best parameters for one data set."""

    params: FloatArray
    """In the order of the law's parameters, shape (n_parameters,)."""
    residuals: FloatArray
    """log y - log prediction, or y - prediction, shape (n,)."""
    objective: float
    """Sum of weighted Huber losses; half the weighted sum of squares without a threshold."""
    delta: float
    """Threshold of Huber's loss in the unit of the residuals; infinite for least squares."""
    at_bound: tuple[str, ...]
    """Shape parameters at a bound, and amplitudes at zero."""


def solve(
    law: AbstractSeparableLaw,
    x: Inputs,
    y: FloatArray,
    *,
    weight: FloatArray | None = None,
    residual: Residual = "log",
    delta: float | None = None,
    check: bool = True,
) -> Solution:
    """Fit a law to one data set.

    Parameters
    ----------
    law : AbstractSeparableLaw
    x : mapping of str to array of shape (n,)
        Checked variables (`AbstractSeparableLaw.read`).
    y : array of shape (n,)
        Observed values; positive for residuals of the logarithm.
    weight : array of shape (n,), optional
        Inverse variances up to a factor, or multiplicities. Defaults to ones.
    residual : {"log", "linear"}, optional
        Defaults to ``"log"``.
    delta : float, optional
        Threshold of Huber's loss in the unit of the residuals; infinity is least squares. Default None: 1.345 robust
        standard deviations of the residuals (`robust_sd`).
    check : bool, optional
        Whether to look for a lower point with a second, derivative-free optimizer, which takes as long again. Defaults
        to True.

    Returns
    -------
    Solution
        The lowest of several local minima.
    """
    weights = np.ones(y.size) if weight is None else weight
    threshold = np.inf if delta is None else delta
    guesses = law.first_guesses(x)
    found = _search(law, x, y, weights, residual, threshold, guesses, check=check and delta is not None)
    if delta is None:
        for rethresholding in range(_RETHRESHOLDINGS):
            spread = robust_sd(law, x, found.params, found.residuals, weights, log=residual == "log")
            # Exact data have no outliers to guard against, and no scale to set a threshold by.
            threshold = HUBER * spread if spread > 1e-9 * float(np.max(np.abs(y))) else np.inf
            near = found.params[None, list(law.shaping)]
            last = rethresholding == _RETHRESHOLDINGS - 1 or not np.isfinite(threshold)
            starts = np.vstack([near, guesses]) if last else near
            found = _search(law, x, y, weights, residual, threshold, starts, check=check and last)
            if last:
                break
    return found


def resolve(
    law: AbstractSeparableLaw,
    x: Inputs,
    y: FloatArray,
    start: FloatArray,
    *,
    weight: FloatArray,
    residual: Residual = "log",
    delta: float = np.inf,
) -> FloatArray:
    """Fit a law to many data sets that resemble one that was solved, as in a bootstrap.

    Parameters
    ----------
    law : AbstractSeparableLaw
    x : mapping of str to array of shape (n,)
    y : array of shape (n,) or (r, n)
        One set of values, or one for each replicate.
    start : array of shape (n_parameters,)
        Parameters of the data set that was solved.
    weight : array of shape (r, n)
        Weights or multiplicities of each replicate; zero leaves a point out.
    residual, delta
        As in `solve`; use the threshold that it found.

    Returns
    -------
    array of shape (r, n_parameters)
    """
    shapes = np.repeat(np.asarray(start)[None, list(law.shaping)], len(weight), axis=0)
    values = np.broadcast_to(y, weight.shape)
    problem = _Problem.of(law, x, values, weight, residual, delta, _SETTLED_RESAMPLE)
    shapes, amplitudes, _ = _descend(problem, shapes)
    return law.join(amplitudes, shapes)


@final
@dataclass(frozen=True, slots=True)
class _Problem:
    """m data sets of n points at u places: replicates of a cell share their place, where the law is evaluated once."""

    law: AbstractSeparableLaw
    x: Inputs
    """(u,)"""
    y: FloatArray
    """(m, n), points of one place next to each other."""
    weight: FloatArray
    residual: Residual
    delta: float
    settled: float
    place: Rows
    """Place of each point, (n,)."""
    first: Rows
    """First point of each place, (u,)."""
    log_y: FloatArray
    """(m, n)"""
    floor: FloatArray
    """Smallest prediction at each place whose logarithm counts, (m, u)."""

    @classmethod
    def of(
        cls,
        law: AbstractSeparableLaw,
        x: Inputs,
        y: FloatArray,
        weight: FloatArray,
        residual: Residual,
        delta: float,
        settled: float = _SETTLED,
    ) -> _Problem:
        table = np.stack([x[name] for name in law.inputs])
        order = np.lexsort(table)
        fresh = np.any(np.diff(table[:, order], axis=1) != 0, axis=0)
        first = np.flatnonzero(np.concatenate([[True], fresh]))
        place = np.cumsum(np.concatenate([[0], fresh]))
        values = y[:, order]
        # Residuals of raw values need no logarithm, and those may be negative.
        log_y = np.log(values) if residual == "log" else values
        floor = _FLOOR * np.maximum.reduceat(np.abs(values), first, axis=1)
        near = {name: x[name][order[first]] for name in law.inputs}
        return cls(law, near, values, weight[:, order], residual, delta, settled, place, first, log_y, floor)

    def total(self, points: FloatArray) -> FloatArray:
        """Return sums over the points of each place, (m, u)."""
        if self.first.size == self.place.size:
            return points
        return np.add.reduceat(points, self.first, axis=1)

    def at_points(self, places: FloatArray) -> FloatArray:
        """Return the value at the place of each point, (m, n)."""
        return places if self.first.size == self.place.size else places[:, self.place]

    def gap(self, predicted: FloatArray) -> FloatArray:
        """Return the residuals of all points, (m, n), for predictions at their places, (m, u)."""
        if self.residual == "linear":
            return self.y - self.at_points(predicted)
        return self.log_y - self.at_points(np.log(np.maximum(predicted, self.floor)))

    @property
    def rounding(self) -> FloatArray:
        """Objective below which a fit is exact, (m,)."""
        unit = self.weight if self.residual == "log" else self.weight * self.y**2
        floor: FloatArray = _EXACT * unit.sum(axis=1)
        return floor

    def rows(self, keep: Rows) -> _Problem:
        return replace(self, y=self.y[keep], weight=self.weight[keep], log_y=self.log_y[keep], floor=self.floor[keep])


def _search(
    law: AbstractSeparableLaw,
    x: Inputs,
    y: FloatArray,
    weight: FloatArray,
    residual: Residual,
    delta: float,
    guesses: FloatArray,
    *,
    check: bool,
) -> Solution:
    """Return the lowest of the minima reached from the best guesses; `check` looks lower with a second optimizer."""

    def problem(count: int) -> _Problem:
        shape = (count, y.size)
        return _Problem.of(law, x, np.broadcast_to(y, shape), np.broadcast_to(weight, shape), residual, delta)

    values = _project(problem(len(guesses)), guesses, settled=_SETTLED_GUESS).loss
    starts = guesses[np.argsort(values)[:_KEPT_STARTS]]
    shapes, amplitudes, losses = _descend(problem(len(starts)), starts)
    best = int(np.argmin(losses))
    shape: FloatArray = shapes[best]
    amplitude: FloatArray = amplitudes[best]
    loss = float(losses[best])
    if check and shape.size and loss > float(problem(1).rounding[0]):
        lower, upper = law.bounds
        one, scale = problem(1), loss
        near = law.evaluate(law.join(amplitude[None], shape[None]), one.x)

        def height(candidate: FloatArray) -> float:
            return (
                float(_project(one, np.clip(candidate, lower, upper)[None], near, settled=_SETTLED_CHECK).loss[0])
                / scale
            )

        second = minimize(
            height,
            shape,
            method="Nelder-Mead",
            options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 200 * shape.size},
        )
        if second.fun < 1 - 1e-9:
            shapes, amplitudes, losses = _descend(problem(1), np.clip(second.x, lower, upper)[None])
            shape, amplitude, loss = shapes[0], amplitudes[0], float(losses[0])
    params = law.join(amplitude[None], shape[None])[0]
    return Solution(
        params=params,
        residuals=_residuals(y, law.evaluate(params[None], x)[0], residual),
        objective=loss,
        delta=delta,
        at_bound=_at_bound(law, params),
    )


def _at_bound(law: AbstractSeparableLaw, params: FloatArray) -> tuple[str, ...]:
    names = []
    for parameter, value in zip(law.parameters, params, strict=True):
        if parameter.linear:
            stuck = value <= 0
        else:
            reach = _AT_BOUND * max(parameter.upper - parameter.lower, 1e-300)
            stuck = value <= parameter.lower + reach or value >= parameter.upper - reach
        if stuck:
            names.append(parameter.name)
    return tuple(names)


def _residuals(y: FloatArray, predicted: FloatArray, residual: Residual) -> FloatArray:
    if residual == "linear":
        return y - predicted
    gap: FloatArray = np.log(y) - np.log(np.maximum(predicted, _FLOOR * y))
    return gap


@final
@dataclass(slots=True)
class _State:
    """The projection of m candidate shapes."""

    amplitudes: FloatArray
    """(m, k)"""
    predicted: FloatArray
    """At each place, (m, u)."""
    gap: FloatArray
    """Residuals, (m, n)."""
    weight: FloatArray
    """Weights times Huber's reweighting, (m, n)."""
    loss: FloatArray
    """(m,)"""

    def put(self, rows: Rows, other: _State, chosen: Rows) -> None:
        self.amplitudes[rows], self.predicted[rows] = other.amplitudes[chosen], other.predicted[chosen]
        self.gap[rows], self.weight[rows], self.loss[rows] = other.gap[chosen], other.weight[chosen], other.loss[chosen]


def _project(
    problem: _Problem,
    shapes: FloatArray,
    predicted: FloatArray | None = None,
    *,
    settled: float,
    most: int = _REWEIGHTINGS,
) -> _State:
    """Return the best amplitudes for each shape; `predicted` are values at the places near which to begin."""
    columns = problem.law.columns(shapes, problem.x)
    y, weight, delta = problem.y, problem.weight, problem.delta
    log = problem.residual == "log"
    if predicted is None:
        # The mean of the data at each place.
        predicted = problem.total(y) / np.diff(problem.first, append=problem.place.size)
    gap = problem.gap(predicted)
    best: _State | None = None
    for _ in range(most):
        pull = weight.copy() if np.isinf(delta) else weight * np.minimum(1.0, delta / np.maximum(np.abs(gap), 1e-300))
        if log:
            base = np.maximum(predicted, problem.floor)
            amplitudes = non_negative(columns / base[..., None], problem.total(pull * (1 + gap)), problem.total(pull))
        else:
            amplitudes = non_negative(columns, problem.total(pull * y), problem.total(pull))
        predicted = (columns @ amplitudes[..., None])[..., 0]
        gap = problem.gap(predicted)
        loss = np.sum(weight * _huber(gap, delta), axis=1)
        now = _State(amplitudes, predicted, gap, pull, loss)
        if best is None:
            best, gain = now, loss
        else:
            better = np.flatnonzero(loss < best.loss)
            gain = np.maximum(best.loss - loss, 0.0)
            if better.size == len(loss):
                best = now
            else:
                best.put(better, now, better)
        if np.all(gain <= settled * best.loss) or (not log and np.isinf(delta)):
            break
    assert best is not None
    return best


def _huber(gap: FloatArray, delta: float) -> FloatArray:
    inner = np.minimum(np.abs(gap), delta)
    return inner * (np.abs(gap) - 0.5 * inner)


def _descend(problem: _Problem, shapes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return shapes, amplitudes and objectives after damped Gauss-Newton steps on the projected residuals."""
    lower, upper = problem.law.bounds
    shapes = np.clip(shapes, lower, upper)
    state = _project(problem, shapes, settled=_SETTLED_STEP)
    k = shapes.shape[1]
    if k == 0:
        return shapes, state.amplitudes, state.loss
    damping = np.full(len(shapes), 1e-3)
    exact = problem.rounding
    active = np.flatnonzero(state.loss > exact)
    for _ in range(_STEPS):
        if not active.size:
            break
        part = problem.rows(active)
        own = _State(*(getattr(state, name)[active] for name in ("amplitudes", "predicted", "gap", "weight", "loss")))
        bend = part.total(_curvature(part, own.gap))
        jacobian = _jacobian(part, shapes[active], own, bend, lower, upper)
        gram = np.swapaxes(jacobian * bend[..., None], 1, 2) @ jacobian
        gradient = np.einsum("mnp,mn->mp", jacobian, part.total(own.weight * own.gap))
        diagonal = np.einsum("mii->mi", gram)
        ridge = damping[active, None] * diagonal + 1e-12 * (diagonal.max(axis=1, keepdims=True) + 1e-300)
        step = np.linalg.solve(gram + ridge[:, :, None] * np.eye(k), gradient[..., None])[..., 0]
        moved = np.clip(shapes[active] + step, lower, upper)
        new = _project(part, moved, own.predicted, settled=_SETTLED_STEP, most=_STEP_REWEIGHTINGS)
        chosen = np.flatnonzero(new.loss < own.loss)
        gain = np.zeros(active.size)
        gain[chosen] = own.loss[chosen] - new.loss[chosen]
        better = gain > 0
        shapes[active[chosen]] = moved[chosen]
        state.put(active[chosen], new, chosen)
        damping[active] = np.where(better, damping[active] / 5, damping[active] * 8)
        still = (gain > problem.settled * own.loss) | (~better & (damping[active] < _STIFF))
        active = active[still & (state.loss[active] > exact[active])]
    return shapes, state.amplitudes, state.loss


def _curvature(problem: _Problem, gap: FloatArray) -> FloatArray:
    """Return the second derivative of each point's loss, shape (m, n).

    Beyond the threshold Huber's loss does not curve. Steps with the weights of the reweighting instead, which count
    such points too, are many times shorter; a tenth of those weights keeps the problem regular.
    """
    if np.isinf(problem.delta):
        return problem.weight
    size = np.maximum(np.abs(gap), 1e-300)
    bend: FloatArray = problem.weight * np.where(size <= problem.delta, 1.0, _BEYOND * problem.delta / size)
    return bend


def _jacobian(
    problem: _Problem, shapes: FloatArray, state: _State, bend: FloatArray, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    """Return the derivative of the fitted values with respect to the shape in the unit of the residuals, (m, u, p).

    What the amplitudes make up for is projected out (Kaufman 1975: the derivative of the projector is left out).
    """
    scale = np.maximum(state.predicted, problem.floor) if problem.residual == "log" else np.ones(())
    parts = []
    for i in range(shapes.shape[1]):
        step = 1e-6 * np.maximum(np.abs(shapes[:, i]), 1e-2)
        above, below = shapes.copy(), shapes.copy()
        above[:, i] = np.minimum(shapes[:, i] + step, upper[i])
        below[:, i] = np.maximum(shapes[:, i] - step, lower[i])
        width = above[:, i] - below[:, i]
        change = problem.law.columns(above, problem.x) - problem.law.columns(below, problem.x)
        parts.append((change @ state.amplitudes[..., None])[..., 0] / (width[:, None] * scale))
    slopes = np.stack(parts, axis=2)
    columns = problem.law.columns(shapes, problem.x) * (state.amplitudes > 0)[:, None, :]
    if problem.residual == "log":
        columns = columns / scale[..., None]
    pulled = np.swapaxes(columns * bend[..., None], 1, 2)
    gram = pulled @ columns
    norm = np.einsum("mkk->mk", gram)
    gram = gram + (1e-13 * norm + np.where(norm > 0, 0.0, 1.0))[:, :, None] * np.eye(norm.shape[1])
    answer: FloatArray = slopes - columns @ np.linalg.solve(gram, pulled @ slopes)
    return answer
