"""Non-negative least squares for many small problems at once."""

from __future__ import annotations

import itertools

import numpy as np

from lrscale.laws.base import FloatArray


def non_negative(columns: FloatArray, pulled: FloatArray, weight: FloatArray) -> FloatArray:
    """Return non-negative least squares for m problems, shape (m, k); `pulled` is the target times the weight.

    With k columns the optimum is the unrestricted solution on one of 2^k - 1 subsets of them: for k up to four, trying
    all of them for every problem at once is faster than one active-set search for each.
    """
    weighted = columns * weight[..., None]
    gram = np.swapaxes(weighted, 1, 2) @ columns
    norm = np.sqrt(np.maximum(np.einsum("mkk->mk", gram), 1e-300))
    gram = gram / (norm[:, :, None] * norm[:, None, :])
    right = (np.swapaxes(columns, 1, 2) @ pulled[..., None])[..., 0] / norm
    k = right.shape[1]
    # A ridge of rounding size keeps equal columns from raising; it moves no amplitude that data determine.
    gram = gram + 1e-13 * np.eye(k)
    best = np.linalg.solve(gram, right[..., None])[..., 0]
    # Where the unrestricted solution is not negative it is the answer.
    left = np.flatnonzero(np.any(best < 0, axis=1))
    if left.size:
        best[left] = _on_a_face(gram[left], right[left])
    answer: FloatArray = best / norm
    return answer


def _on_a_face(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Return non-negative least squares for m problems whose answer has at least one zero, shape (m, k)."""
    m, k = right.shape
    best, gains = np.zeros((m, k)), np.zeros(m)
    for size in range(k - 1, 0, -1):
        for subset in itertools.combinations(range(k), size):
            own = list(subset)
            part = np.linalg.solve(gram[:, own][:, :, own], right[:, own][..., None])[..., 0]
            # Least squares lower the sum of squares by right' part; a solution outside the cone does not count.
            gain = np.where(np.all(part >= 0, axis=1), np.sum(right[:, own] * part, axis=1), -1.0)
            rows = np.flatnonzero(gain > gains)
            best[rows] = 0.0
            best[rows[:, None], own] = part[rows]
            gains = np.maximum(gain, gains)
    return best
