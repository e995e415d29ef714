"""The error of an estimate with two parts, each of a standard error that is itself estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

_PHASES = np.pi * (np.arange(400) + 0.5) / 400
_SHARES = (1 - np.cos(_PHASES)) / 2
_WEIGHTS = np.sin(_PHASES) / np.sum(np.sin(_PHASES))
"""Places in the distribution of the part with the lighter tail, denser towards its tails, and their weights; the other
part is exact. Against a hundred times as many, bounds of 95 to 99.7 % move by less than 0.5 %."""


@final
@dataclass(frozen=True, slots=True)
class StudentSum:
    """The sum of two independent errors, each a scale times a t-distributed variable.

    Their joint scale has no chi-squared distribution. Given the degrees of freedom of Satterthwaite, a test is too sure
    whenever the scale of a part with one or two degrees of freedom comes out small by chance: that part is lost beside
    the other, and its heavy tail with it. The convolution keeps the tail.

    References
    ----------
    .. [1] Fisher. "The fiducial argument in statistical inference." Annals of Eugenics 6 (1935): the solution of the
       problem of Behrens 1929.

    Examples
    --------
    >>> round(StudentSum((1.0, 0.0), (2.0, 9.0)).half_width(0.95), 3)  # one part alone: Student's t
    4.303
    >>> round(StudentSum((0.3, 1.0), (1.0, 50.0)).half_width(0.95), 2)
    4.12
    """

    scales: tuple[float, float]
    """Standard errors of the parts, at least 0."""
    dfs: tuple[float, float]
    """Their degrees of freedom, above 0."""

    def two_sided(self, value: float) -> float:
        """Return the probability of an error at least as large as `value`, of either sign."""
        parts = sorted((df, scale) for df, scale in zip(self.dfs, self.scales, strict=True) if scale > 0)
        if not parts:
            return 1.0 if value == 0 else 0.0
        df, scale = parts[0]
        lighter = parts[1][1] * stdtrit(parts[1][0], _SHARES) if len(parts) > 1 else 0.0
        return float(min(1.0, 2 * np.sum(_WEIGHTS * stdtr(df, (lighter - abs(value)) / scale))))

    def half_width(self, confidence: float) -> float:
        """Return the bound that the error stays within, on both sides, with a probability in (0, 1)."""
        tail = (1 + confidence) / 2
        parts = [scale * float(stdtrit(df, tail)) for scale, df in zip(self.scales, self.dfs, strict=True)]
        if min(self.scales) <= 0:
            return max(parts)
        # The bound of a sum lies above that of either part and below the sum of both (Behrens-Fisher tables).
        lower, upper = 0.5 * max(parts), 2 * sum(parts)
        return float(
            brentq(lambda bound: self.two_sided(bound) - (1 - confidence), lower, upper, xtol=1e-9 * upper, rtol=1e-9)
        )
