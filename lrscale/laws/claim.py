"""A claim that an effect exceeds a threshold, judged in both directions with a stated error."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from lrscale.errors import LrscaleError
from lrscale.laws.base import check_confidence

ClaimVerdict = Literal["holds", "does not hold", "cannot tell"]
Name = TypeVar("Name", bound=Hashable)

FEWEST_DRAWS = 100


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The claim "the effect exceeds the threshold", with what the data say of it.

    Two one-sided tests, each at half of ``1 - confidence``: the claim holds where the lower end of the interval lies
    above the threshold, and does not where the upper end lies below. So with an effect at the threshold itself a
    verdict is given, and is false, in ``1 - confidence`` of studies; anywhere else in at most half of that.

    Examples
    --------
    >>> claim = Claim.of_pairs([0.11, 0.14, 0.09], threshold=0.02)
    >>> claim.verdict, round(claim.value, 3), claim.p_value < 0.05
    ('holds', 0.113, True)
    """

    value: float
    """Estimate of the effect."""
    lo: float | None
    """Lower end of its interval; None where the data leave it open."""
    hi: float | None
    threshold: float
    """What the effect must exceed: the margin up to which it counts as none."""
    p_below: float
    """Chance of data as favourable to the claim if the effect is at the threshold, in [0, 1]."""
    p_above: float
    """Chance of data as unfavourable to it."""
    confidence: float = 0.95

    @property
    def verdict(self) -> ClaimVerdict:
        """What the data decide."""
        if self.lo is not None and self.lo > self.threshold:
            return "holds"
        if self.hi is not None and self.hi < self.threshold:
            return "does not hold"
        return "cannot tell"

    @property
    def p_value(self) -> float:
        """Two-sided: of an effect at the threshold."""
        return min(1.0, 2 * min(self.p_below, self.p_above))

    @classmethod
    def of_t(cls, value: float, se: float, df: float, *, threshold: float = 0.0, confidence: float = 0.95) -> Claim:
        """Judge an estimate whose error follows Student's t.

        Parameters
        ----------
        value : float
            Estimate of the effect.
        se : float
            Its standard error, at least 0.
        df : float
            Degrees of freedom of the error, positive.
        threshold : float, optional
            Default 0.
        confidence : float, optional
            Default 0.95.

        Raises
        ------
        LrscaleError
            When a number is out of its range.

        Examples
        --------
        >>> Claim.of_t(1.0, 0.1, 4).verdict, Claim.of_t(1.0, 0.1, 4, threshold=1.5).verdict
        ('holds', 'does not hold')
        """
        check_confidence(confidence)
        if not (math.isfinite(value) and math.isfinite(se) and se >= 0 and df > 0):
            raise LrscaleError(
                f"an effect of {value} with standard error {se} and {df} degrees of freedom cannot be judged",
                hint="give finite numbers, a standard error of at least 0 and positive degrees of freedom",
            )
        half = float(stdtrit(df, (1 + confidence) / 2)) * se
        gap = value - threshold
        below = _one_sided(gap, se, df)
        return cls(
            value=value,
            lo=value - half,
            hi=value + half,
            threshold=threshold,
            p_below=below,
            p_above=_one_sided(-gap, se, df),
            confidence=confidence,
        )

    @classmethod
    def of_pairs(
        cls, differences: Sequence[float], *, threshold: float = 0.0, confidence: float = 0.95, se_floor: float = 0.0
    ) -> Claim | None:
        """Judge a mean of independent differences, one for each seed; None for fewer than two.

        Parameters
        ----------
        differences : sequence of float
            One for each seed.
        threshold, confidence : float, optional
            As in `of_t`.
        se_floor : float, optional
            Standard error that each difference has besides, for example that of the grid it was read on; the mean has
            it divided by the root of their number. Default 0.
        """
        values = np.asarray(differences, dtype=np.float64)
        if values.size < 2:
            return None
        se = math.hypot(float(values.std(ddof=1)), se_floor) / math.sqrt(values.size)
        return cls.of_t(float(values.mean()), se, values.size - 1, threshold=threshold, confidence=confidence)

    @classmethod
    def of_draws(cls, draws: ArrayLike, *, threshold: float = 0.0, confidence: float = 0.95) -> Claim:
        """Judge an effect by equally weighted draws of it, from a posterior or a bootstrap.

        A p-value is never below one over the number of draws.

        Raises
        ------
        LrscaleError
            For fewer than 100 finite draws.
        """
        check_confidence(confidence)
        values = np.asarray(draws, dtype=np.float64)
        values = values[np.isfinite(values)]
        if values.size < FEWEST_DRAWS:
            raise LrscaleError(
                f"{values.size} finite draws are too few to judge by", hint=f"give at least {FEWEST_DRAWS}"
            )
        tail = 50 * (1 - confidence)
        lo, middle, hi = (float(value) for value in np.percentile(values, [tail, 50, 100 - tail]))
        return cls(
            value=middle,
            lo=lo,
            hi=hi,
            threshold=threshold,
            p_below=(1 + int(np.sum(values <= threshold))) / (1 + values.size),
            p_above=(1 + int(np.sum(values >= threshold))) / (1 + values.size),
            confidence=confidence,
        )

    @classmethod
    def of_magnitude(cls, draws: ArrayLike, *, threshold: float, confidence: float = 0.95) -> Claim:
        """Judge by draws of an effect whether it exceeds a threshold in either direction.

        It holds where the interval lies outside of -threshold to threshold, and does not where it lies inside.

        Examples
        --------
        >>> draws = np.linspace(-1.2, -0.8, 400)
        >>> Claim.of_magnitude(draws, threshold=0.5).verdict, Claim.of_magnitude(draws, threshold=2.0).verdict
        ('holds', 'does not hold')
        """
        values = np.asarray(draws, dtype=np.float64)
        up = cls.of_draws(values, threshold=threshold, confidence=confidence)
        down = cls.of_draws(-values, threshold=threshold, confidence=confidence)
        assert up.lo is not None and up.hi is not None
        return cls(
            value=abs(up.value),
            lo=max(up.lo, -up.hi, 0.0),
            hi=max(abs(up.lo), abs(up.hi)),
            threshold=threshold,
            p_below=min(1.0, 2 * min(up.p_below, down.p_below)),
            p_above=max(up.p_above, down.p_above),
            confidence=confidence,
        )

    @classmethod
    def of_equality(cls, value: float, se: float, df: float, *, margin: float, confidence: float = 0.95) -> Claim:
        """Judge whether an effect is none, but for a margin in either direction.

        It holds where the interval lies inside of -margin to margin, and does not where it lies outside. The effect of
        the claim is minus the size of the given one, with minus the margin for its threshold.

        Examples
        --------
        >>> [Claim.of_equality(value, 0.1, 9, margin=0.5).verdict for value in (0.0, -0.4, -1.0)]
        ['holds', 'cannot tell', 'does not hold']
        """
        up = cls.of_t(value, se, df, threshold=margin, confidence=confidence)
        down = cls.of_t(-value, se, df, threshold=margin, confidence=confidence)
        assert up.lo is not None and up.hi is not None
        return cls(
            value=-abs(value),
            lo=-max(abs(up.lo), abs(up.hi)),
            hi=-max(up.lo, -up.hi, 0.0),
            threshold=-margin,
            p_below=max(up.p_above, down.p_above),
            p_above=min(1.0, 2 * min(up.p_below, down.p_below)),
            confidence=confidence,
        )

    def negated(self) -> Claim:
        """Return the claim about the effect of the opposite sign, for sentences: what exceeds there lies below here."""
        return Claim(
            value=-self.value,
            lo=None if self.hi is None else -self.hi,
            hi=None if self.lo is None else -self.lo,
            threshold=-self.threshold,
            p_below=self.p_above,
            p_above=self.p_below,
            confidence=self.confidence,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; ``Claim(**values)`` inverts it."""
        return {name: getattr(self, name) for name in self.__slots__}


def every(claims: Sequence[Claim]) -> Claim:
    """Return the claim that all of some claims are true, where one threshold stands for all.

    It holds where each holds, so that the largest p-value is that of all (intersection-union test: Berger 1982); it
    does not where one does not, whose p-value is multiplied by their number (Bonferroni). The estimate is the smallest.

    Parameters
    ----------
    claims : sequence of Claim
        At least one, of one threshold and confidence.
    """
    least = min(claims, key=lambda one: one.value)
    p_above = min(1.0, len(claims) * min(one.p_above for one in claims))
    lows = [one.lo for one in claims]
    lo = None if any(low is None for low in lows) else min(low for low in lows if low is not None)
    hi = least.hi
    if p_above >= (1 - least.confidence) / 2 and hi is not None:
        # Told by one of several at its own level, and not at that of all.
        hi = max(hi, least.threshold)
    return Claim(
        value=least.value,
        lo=lo,
        hi=hi,
        threshold=least.threshold,
        p_below=max(one.p_below for one in claims),
        p_above=p_above,
        confidence=least.confidence,
    )


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Return p-values adjusted for their number (Holm 1979).

    References
    ----------
    .. [1] Holm. "A Simple Sequentially Rejective Multiple Test Procedure." Scand. J. Stat. 6 (1979).

    Examples
    --------
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted: dict[Name, float] = {}
    running = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda own: p_values[own])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = running
    return adjusted


def _one_sided(gap: float, se: float, df: float) -> float:
    """Return the chance of an estimate so far above the threshold."""
    if se <= 0:
        return 0.5 if gap == 0 else float(gap < 0)
    return float(stdtr(df, -gap / se))
