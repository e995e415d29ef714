"""The settings that a planner may choose from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from lrscale.errors import LrscaleError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class HasPoints(Protocol):
    """Anything with a table of (LR, batch size) rows."""

    @property
    def points(self) -> FloatArray:
        """Array of shape (n, 2): LR and batch size."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Settings to choose from, and the box that the user had in mind.

    Parameters
    ----------
    points : array of float, shape (n, 2)
        LR and batch size of each setting, positive and finite.
    box : ((float, float), (float, float)) or None, optional
        Lowest and highest LR, and batch size, between which the optimum is expected. Default None: those of the points.

    Raises
    ------
    LrscaleError
        Without a setting, or for one that is not positive.

    Examples
    --------
    >>> Space.lattice((1e-3, 4e-3), [16, 64], per_octave=1).points.tolist()
    [[0.001, 16.0], [0.002, 16.0], [0.004, 16.0], [0.001, 64.0], [0.002, 64.0], [0.004, 64.0]]
    """

    points: FloatArray
    box: tuple[tuple[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise LrscaleError(
                f"a space has rows of (LR, batch size), not the shape {points.shape}", hint="name at least one"
            )
        bad = points[~(np.isfinite(points) & (points > 0)).all(axis=1)]
        if len(bad):
            raise LrscaleError(f"LR {bad[0, 0]:g} at batch {bad[0, 1]:g} is no setting", hint="use positive numbers")
        object.__setattr__(self, "points", points)

    @classmethod
    def lattice(
        cls,
        lr: tuple[float, float],
        batch_sizes: Sequence[int],
        *,
        per_octave: int = 2,
        margin: float = 0.0,
    ) -> Space:
        """Return the settings at LRs of equal ratio and given batch sizes.

        Parameters
        ----------
        lr : (float, float)
            Lowest and highest LR of the box. The first is one of the LRs.
        batch_sizes : sequence of int
            Global batch sizes.
        per_octave : int, optional
            LRs in a factor of two. Default 2, a ratio of 1.41: half of it costs less than a run's noise.
        margin : float, optional
            Octaves of LRs beyond either end of the box that may be chosen as well. Default 0.
        """
        lo, hi = sorted(lr)
        above = math.ceil(per_octave * (math.log2(hi / lo) + margin) - 1e-9)
        steps = np.arange(-math.ceil(per_octave * margin - 1e-9), above + 1)
        lrs = lo * 2.0 ** (steps / per_octave)
        sizes = sorted({float(size) for size in batch_sizes})
        points = np.array([(one, size) for size in sizes for one in lrs])
        return cls(points, ((lo, hi), (sizes[0], sizes[-1])))

    @property
    def logs(self) -> FloatArray:
        """Natural logarithms of the points, shape (n, 2)."""
        logs: FloatArray = np.log(self.points)
        return logs

    @property
    def log_box(self) -> FloatArray:
        """Natural logarithms of the box: rows of lowest and highest, columns of LR and batch size."""
        if self.box is None:
            logs = self.logs
            return np.array([logs.min(axis=0), logs.max(axis=0)])
        box: FloatArray = np.log(np.array(self.box)).T
        return box

    def nearest(self, lr: float, batch_size: float) -> int:
        """Return the row of the point that is nearest in logarithms.

        Raises
        ------
        LrscaleError
            For an LR or a batch size that is not positive.
        """
        if not (0 < lr < math.inf and 0 < batch_size < math.inf):
            raise LrscaleError(f"LR {lr:g} at batch {batch_size:g} is no setting", hint="use positive numbers")
        away = self.logs - np.log([lr, batch_size])
        return int(np.argmin((away**2).sum(axis=1)))
