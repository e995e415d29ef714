"""Fit a law to loss curves and, in the same pass, to the curves that remain when each schedule is left out."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from lrscale.laws.annealing.schedule_law import AbstractScheduleLaw
from lrscale.laws.base import MAD_TO_SD, FloatArray
from lrscale.laws.varpro import HUBER, resolve

# Threshold of Huber's loss in the logarithm of the loss (Luo et al. 2025), unless the noise is larger.
_DELTA = 1e-3
_STARTS = 3


def fit_each(law: AbstractScheduleLaw, loss: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit a bound law once for each row of weights.

    Every row is searched from the same coarse starts, never from the fit to another row: a fit that began at the
    optimum of all curves would hide how far it wanders once a schedule is left out.

    Parameters
    ----------
    law : AbstractScheduleLaw
        Bound to the curves, n points in all.
    loss : array of shape (n,)
    weight : array of shape (r, n)
        The first row is used to set the threshold of Huber's loss.

    Returns
    -------
    params : array of shape (r, n_parameters)
    residuals : array of shape (n,)
        ln(loss) minus its fitted value, for the first row.
    """
    starts = _starts(law, loss, weight[0])
    plain = resolve(law, law.rows, loss, starts[0], weight=weight[:1])
    gap = (np.log(loss) - _log(law.evaluate(plain, law.rows), loss))[0][weight[0] > 0]
    delta = max(_DELTA, HUBER * MAD_TO_SD * float(np.median(np.abs(gap))))
    found = np.stack([resolve(law, law.rows, loss, start, weight=weight, delta=delta) for start in starts])
    rows = found.reshape(-1, law.n_parameters)
    gaps = (np.log(loss) - _log(law.evaluate(rows, law.rows), loss)).reshape(len(starts), *weight.shape)
    size = np.abs(gaps)
    cost = np.sum(weight * np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)), axis=2)
    best = np.argmin(cost, axis=0)
    return found[best, np.arange(len(weight))], gaps[best[0], 0]


def _log(predicted: FloatArray, loss: FloatArray) -> FloatArray:
    value: FloatArray = np.log(np.maximum(predicted, 1e-6 * loss))
    return value


def _starts(law: AbstractScheduleLaw, loss: FloatArray, weight: FloatArray) -> list[FloatArray]:
    """Return the best first guesses, no two with the same time scale (the last shape parameter)."""
    guesses = law.first_guesses(law.rows)
    root = np.sqrt(weight)
    columns = law.columns(guesses, law.rows) * (root / loss)[:, None]
    solved = [nnls(own, root) for own in columns]
    order = np.argsort([misfit for _, misfit in solved], kind="stable")
    chosen: list[int] = []
    for i in order:
        if len(chosen) < _STARTS and all(guesses[i, -1] != guesses[j, -1] for j in chosen):
            chosen.append(int(i))
    return [law.join(solved[i][0][None], guesses[i][None])[0] for i in chosen]
