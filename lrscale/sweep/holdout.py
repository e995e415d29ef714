"""What the laws say about the largest batch size when it is left out of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from lrscale.laws import LRSliceFit, fit_optimal_lr


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A measured optimum that was left out, and its prediction."""

    what: str
    """What was left out, for example ``"batch 2048"``."""
    measured: float
    predicted: float
    lo: float | None
    hi: float | None
    """Ends of the prediction's interval; None where it is open."""
    inside: bool
    """Whether the measured optimum, with its own interval, meets the interval of the prediction."""

    @property
    def factor(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Miss:
        """Rebuild what `to_dict` wrote."""
        return cls(**data)

    def text(self) -> str:
        """Return the miss as a sentence.

        Examples
        --------
        >>> Miss(what="batch 256", measured=0.01, predicted=0.012, lo=0.009, hi=0.016, inside=True).text()
        'without batch 256 the law says 0.012 (0.009 to 0.016) there; measured 0.01, a factor of 1.2; inside'
        """
        ends = f"{'-' if self.lo is None else f'{self.lo:.3g}'} to {'-' if self.hi is None else f'{self.hi:.3g}'}"
        place = "inside" if self.inside else "outside"
        return (
            f"without {self.what} the law says {self.predicted:.3g} ({ends}) there; measured {self.measured:.3g}, a "
            f"factor of {self.factor:.2g}; {place}"
        )


def hold_out_largest_batch(
    fits: Mapping[float, LRSliceFit], *, confidence: float, resamples: int, random_seed: int
) -> Miss | str:
    """Fit the law without the largest batch size that has an optimum, and compare; or say why that is impossible."""
    known = [size for size, fit in fits.items() if fit.ok]
    if len(known) < 2:
        return f"{len(known)} batch sizes have their optimum inside; nothing can be left out"
    largest = max(known)
    rest = {size: fit for size, fit in fits.items() if size < largest}
    law = fit_optimal_lr(
        list(rest), list(rest.values()), confidence=confidence, resamples=resamples, random_seed=random_seed
    )
    if not law.ok:
        return f"without batch {largest:g} no law can be fitted: {law.reason}"
    value, lo, hi = (float(one[0]) for one in law.predict(largest))
    own = fits[largest]
    measured = own.best_lr or math.nan
    least = own.interval.lo if own.interval is not None and own.interval.lo is not None else measured
    most = own.interval.hi if own.interval is not None and own.interval.hi is not None else measured
    return Miss(
        what=f"batch {largest:g}",
        measured=measured,
        predicted=value,
        lo=lo if math.isfinite(lo) else None,
        hi=hi if math.isfinite(hi) else None,
        inside=bool(lo <= most and least <= hi),
    )
