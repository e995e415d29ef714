"""How well a loss law predicts runs that it has not seen, and how its simpler rivals compare."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from lrscale.laws.base import FloatArray
from lrscale.laws.choice import Holdout, aicc, near_largest
from lrscale.laws.scale.loss_data import LossData, distinct
from lrscale.laws.scale.loss_draws import draw
from lrscale.laws.separable import AbstractSeparableLaw, Inputs
from lrscale.laws.varpro import Residual, Solution, resolve, solve

_MOST_GROUPS = 12
_HOLDOUT_DRAWS = 200
_LEAST_SPARE = 3


def huber_root(residuals: FloatArray, delta: float) -> FloatArray:
    """Return residuals whose halved squares are the Huber losses, so that one outlier does not decide an AICc."""
    size = np.abs(residuals)
    if not np.isfinite(delta):
        return residuals
    root: FloatArray = np.where(size <= delta, size, np.sqrt(np.maximum(delta * (2 * size - delta), 0.0)))
    return root


def rank(
    law: AbstractSeparableLaw,
    rivals: Sequence[tuple[str, AbstractSeparableLaw, Inputs]],
    data: LossData,
    x: Inputs,
    found: Solution,
    kind: Residual,
) -> tuple[str | None, float | None, float | None]:
    """Return the best rival's name, the law's AICc, and the rival's minus the law's.

    A cluster counts as one observation, its squared residual the mean over its runs: runs of one cell or points of one
    curve are no independent evidence about the shape of the surface.
    """

    def score(own: AbstractSeparableLaw, solution: Solution) -> float | None:
        square = huber_root(solution.residuals, found.delta) ** 2
        return aicc(np.sqrt(_cluster_means(square, data.clusters)), own.n_parameters)

    own = score(law, found)
    scores = []
    for name, rival, variables in rivals:
        if any(distinct(values) < 2 for values in variables.values()):
            continue
        other = score(rival, solve(rival, variables, data.loss, residual=kind, delta=found.delta, check=False))
        if other is not None:
            scores.append((other, name))
    if own is None or not scores:
        return None, own, None
    best, name = min(scores)
    return name, own, best - own


def _cluster_means(values: FloatArray, clusters: Sequence[Hashable]) -> FloatArray:
    labels = {label: i for i, label in enumerate(dict.fromkeys(clusters))}
    place = np.array([labels[label] for label in clusters])
    means: FloatArray = np.bincount(place, weights=values) / np.bincount(place)
    return means


def cross_validate(
    law: AbstractSeparableLaw, data: LossData, x: Inputs, found: Solution, kind: Residual
) -> float | None:
    """Return the root mean square error of predicting the runs of each model size from all the others.

    Model sizes are joined to at most a dozen groups of neighbours. With one model size the groups are those of tokens.
    """
    name = "params" if distinct(data.x["params"]) > 1 else "tokens"
    ordered, place = np.unique(data.x[name], return_inverse=True)
    groups = place * min(_MOST_GROUPS, ordered.size) // ordered.size
    weight = (groups[None, :] != np.unique(groups)[:, None]).astype(np.float64)
    left = [distinct(np.prod([own[row > 0] for own in x.values()], axis=0)) for row in weight]
    if len(weight) < 2 or min(left) <= law.n_parameters:
        return None
    fitted = law.evaluate(resolve(law, x, data.loss, found.params, weight=weight, residual=kind, delta=found.delta), x)
    missed = weight == 0
    gap = _gap(data.loss, fitted, kind)[missed]
    return float(np.sqrt(np.mean(gap**2)))


def _gap(loss: FloatArray, fitted: FloatArray, kind: Residual) -> FloatArray:
    if kind == "linear":
        return loss - fitted
    gap: FloatArray = np.log(loss) - np.log(np.maximum(fitted, 1e-6 * loss))
    return gap


def hold_out_largest(
    law: AbstractSeparableLaw,
    data: LossData,
    x: Inputs,
    kind: Residual,
    delta: float | None,
    confidence: float,
) -> Holdout | None:
    """Fit without the cells of the largest compute and compare; None when too few would be left.

    The prediction interval is that of a new run: the uncertainty of the fit and the noise of the runs.
    """
    held = near_largest(data.compute)
    kept = ~held
    clusters = [own for own, stays in zip(data.clusters, kept, strict=True) if stays]
    near = {name: own[kept] for name, own in x.items()}
    enough = all(distinct(own) >= _LEAST_SPARE for own in near.values())
    if len(set(clusters)) < law.n_parameters + _LEAST_SPARE or not enough:
        return None
    found = solve(law, near, data.loss[kept], residual=kind, delta=delta)
    rng = np.random.default_rng(0)
    draws = draw(
        law,
        near,
        data.loss[kept],
        clusters,
        found,
        residual=kind,
        confidence=confidence,
        resamples=_HOLDOUT_DRAWS,
        rng=rng,
    )
    far = {name: own[held] for name, own in x.items()}
    gap = _gap(data.loss[held], law.evaluate(found.params[None], far)[0], kind)
    drift = _gap(law.evaluate(draws, far), law.evaluate(found.params[None], far), kind)
    # Residuals are drawn again too, so that outliers among the runs widen the interval as much as they should.
    noise = rng.choice(found.residuals, size=drift.shape) * np.sqrt(kept.sum() / (kept.sum() - law.n_parameters))
    tail = 50 * (1 - confidence)
    lo, hi = np.percentile(drift + noise, [tail, 100 - tail], axis=0)
    return Holdout(
        what="the largest params x tokens",
        n=int(held.sum()),
        rms_error=float(np.sqrt(np.mean(gap**2))),
        mean_error=float(np.mean(gap)),
        inside=float(np.mean((gap >= lo) & (gap <= hi))),
    )


def serial_correlation(data: LossData, residuals: FloatArray) -> float | None:
    """Return the correlation of residuals at neighbouring tokens of one model size but different clusters.

    None with fewer than ten such neighbours.
    """
    order = np.lexsort((data.x["tokens"], data.x["params"]))
    size = data.x["params"][order]
    labels = {label: i for i, label in enumerate(dict.fromkeys(data.clusters))}
    place = np.array([labels[label] for label in data.clusters])[order]
    both = (size[1:] == size[:-1]) & (place[1:] != place[:-1])
    if both.sum() < 10:
        return None
    first, second = residuals[order][:-1][both], residuals[order][1:][both]
    # Ranks, so that one outlier does not decide.
    ranks = [np.argsort(np.argsort(own)).astype(np.float64) for own in (first, second)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
