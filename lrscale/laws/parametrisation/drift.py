"""The drift of the best LR with the width, beside what theory says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, final

from lrscale.laws.optimal_lr.factor_law import FactorLaw

Transfer = Literal["transfers", "drifts", "cannot tell"]

MARGIN = 0.25
"""Power of the width up to which the best LR counts as the same: a factor of 1.19 for each doubling, of less regret
than the flatness of most optima leaves."""
PREDICTIONS: Mapping[str, float] = MappingProxyType({"maximal update": 0.0, "standard, Adam": -1.0})
"""Power of the width in the best LR: none under the maximal update parametrisation, -1 for hidden matrices under Adam
and its kin in the standard one (Yang et al. 2022, arXiv:2203.03466, table 3). The best LR of a whole module lies
between that of its hidden matrices and that of its other parameters, for which theory wants no change."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LRDrift:
    """Whether the best LR of one width serves another. `lr_drift` makes it."""

    transfer: Transfer
    """`transfers` where the whole interval lies within the margin of none, `drifts` where it leaves 0 out."""
    excluded: Mapping[str, bool]
    """Prediction -> whether the interval, widened by nothing, leaves it out."""
    margin: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "transfer": self.transfer,
            "predictions": [
                {"name": name, "power": PREDICTIONS[name], "excluded": excluded}
                for name, excluded in self.excluded.items()
            ],
            "margin": self.margin,
        }


def lr_drift(law: FactorLaw, *, margin: float = MARGIN) -> LRDrift:
    """Judge the power of the width in the best LR.

    Parameters
    ----------
    law : FactorLaw
        Of the width.
    margin : float, optional
        Power that counts as none. Default 0.25.

    Examples
    --------
    >>> from lrscale.laws.base import Interval
    >>> law = FactorLaw(exponent=-0.9, interval=Interval(-1.1, -0.6, 0.95), levels=3, reason="")
    >>> found = lr_drift(law)
    >>> found.transfer, found.excluded["standard, Adam"], found.excluded["maximal update"]
    ('drifts', False, True)
    """
    ends = law.interval
    if law.exponent is None or ends is None:
        return LRDrift(transfer="cannot tell", excluded=dict.fromkeys(PREDICTIONS, False), margin=margin)
    excluded = {name: not ends.contains(power) for name, power in PREDICTIONS.items()}
    transfer: Transfer = "cannot tell"
    if ends.lo is not None and ends.hi is not None and -margin <= ends.lo and ends.hi <= margin:
        transfer = "transfers"
    elif not ends.contains(0.0):
        transfer = "drifts"
    return LRDrift(transfer=transfer, excluded=excluded, margin=margin)
