"""Final losses over model sizes and data, and which law they can carry."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike

from lrscale.errors import LrscaleError
from lrscale.laws.base import FloatArray
from lrscale.laws.scale.loss import CHINCHILLA
from lrscale.laws.separable import Inputs

Direction = Literal["both", "params", "tokens"]

# Two powers of one variable differ too little to be told apart while data departs from a power of model size by less.
_SEPARATE = 0.1
_EQUAL = 1e-9


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LossData:
    """Checked runs with a finite loss."""

    x: Inputs
    """``params`` and ``tokens``, each of shape (n,)."""
    loss: FloatArray
    """(n,)"""
    clusters: tuple[Hashable, ...]
    """Cluster of each run: what shares its noise."""
    n_dropped: int
    """Runs without a finite loss, which were left out."""

    @property
    def n_clusters(self) -> int:
        """Number of distinct clusters."""
        return len(set(self.clusters))

    @property
    def compute(self) -> FloatArray:
        """``params * tokens``, shape (n,)."""
        return self.x["params"] * self.x["tokens"]


def read_losses(
    params: ArrayLike,
    tokens: ArrayLike,
    loss: Sequence[float | None] | ArrayLike,
    cluster: Sequence[Hashable] | ArrayLike | None,
) -> LossData:
    """Check the columns of `fit_loss_scaling`; raise LrscaleError naming the row that is wrong."""
    x = CHINCHILLA.read({"params": params, "tokens": tokens})
    n = x["params"].size
    values = np.atleast_1d(np.asarray(loss, dtype=np.float64))
    if values.shape != (n,):
        raise LrscaleError(f"{values.size} losses for {n} runs", hint="give one loss for each run")
    labels = None if cluster is None else list(np.asarray(cluster, dtype=object).ravel())
    if labels is not None and len(labels) != n:
        raise LrscaleError(f"{len(labels)} clusters for {n} runs", hint="give one cluster for each run")
    finite = np.isfinite(values)
    wrong = finite & (values <= 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise LrscaleError(
            f"row {row}: loss {values[row]} is not positive, and the law is a sum of positive terms",
            hint="give a loss such as the cross-entropy, not its negative or a difference",
        )
    x = {name: own[finite] for name, own in x.items()}
    if labels is None:
        cells: list[Hashable] = list(zip(x["params"].tolist(), x["tokens"].tolist(), strict=True))
    else:
        cells = [label for label, kept in zip(labels, finite, strict=True) if kept]
    return LossData(x=x, loss=values[finite], clusters=tuple(cells), n_dropped=int(n - finite.sum()))


def distinct(values: FloatArray) -> int:
    """Return how many values differ by more than rounding."""
    ordered = np.sort(values)
    return int(1 + np.sum(np.diff(ordered) > _EQUAL * ordered[1:])) if ordered.size else 0


def direction(data: LossData) -> tuple[Direction, str]:
    """Return which variables the runs vary separately, and a sentence when that is not both."""
    n, d = (np.log(data.x[name]) for name in ("params", "tokens"))
    n_params, n_tokens = (distinct(data.x[name]) for name in ("params", "tokens"))
    if n_tokens == 1 and n_params > 1:
        return "params", f"tokens has one value ({data.x['tokens'][0]:g}), so that beta and a cannot be told."
    if n_params == 1 and n_tokens > 1:
        return "tokens", f"params has one value ({data.x['params'][0]:g}), so that alpha and a cannot be told."
    if n_params <= 1:
        return "params", "params and tokens have one value each at the most."
    centred = n - n.mean()
    slope = float(centred @ d / (centred @ centred))
    rest = float(np.std(d - d.mean() - slope * centred))
    if rest < _SEPARATE:
        ratio = math.exp(float(np.mean(d - n)))
        line = f"tokens follows params^{slope:.2f} to within {100 * rest:.1f} %"
        if np.std(d - n) < _SEPARATE:
            line = f"tokens / params is always near {ratio:.3g}"
        return "params", f"{line}, so that the two terms cannot be told apart, nor a; the law holds along it only."
    return "both", ""
