"""Hyperband, alone and with BOHB's model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import SCHEDULERS, TIME, AbstractScheduler, require_at_least
from lrscale.ray_tune.space import Space


@final
@SCHEDULERS.register("hyperband")
@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperband(AbstractScheduler):
    """Successive halving in brackets that begin at different validations, in step.

    References
    ----------
    .. [1] Li et al. "Hyperband: a novel bandit-based approach to hyperparameter optimization." arXiv:1603.06560 (2016).

    Examples
    --------
    >>> print(Hyperband().concern(5, 10))
    HyperBand halves nothing with 5 trials: its first 3 train to their horizon, and its second bracket keeps 2.
    It takes 6.
    >>> Hyperband().concern(6, 10) is None
    True
    """

    title: ClassVar[str] = "HyperBand"
    begins_again: ClassVar[bool] = True

    reduction_factor: int = 3
    """One of so many is kept at each halving; at least 2."""

    def __post_init__(self) -> None:
        require_at_least("reduction_factor", self.reduction_factor, 2)

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers import HyperBandScheduler

        return HyperBandScheduler(time_attr=TIME, max_t=length, reduction_factor=self.reduction_factor)

    @override
    def concern(self, trials: int, length: int) -> str | None:
        # As Ray fills its brackets: the first halves nothing, the second keeps so many of those that are in it, however
        # few these are (ray 2.60, hyperband.py: _get_n0, successive_halving).
        brackets = round(math.log(length) / math.log(self.reduction_factor)) + 1
        if brackets < 2:
            return f"HyperBand halves nothing over {length} validations: it takes more of them."
        kept = math.ceil(math.ceil(brackets / 2 * self.reduction_factor) / self.reduction_factor)
        least = brackets + kept + 1
        if trials >= least:
            return None
        return (
            f"HyperBand halves nothing with {trials} trials: its first {brackets} train to their horizon, and its "
            f"second bracket keeps {kept}. It takes {least}."
        )


@final
@SCHEDULERS.register("bohb")
@dataclass(frozen=True, slots=True, kw_only=True)
class HyperbandForBohb(AbstractScheduler):
    """Hyperband whose widest bracket comes first, for the model of BOHB.

    References
    ----------
    .. [1] Falkner, Klein, Hutter. "BOHB: robust and efficient hyperparameter optimization at scale." arXiv:1807.01774
       (2018).
    """

    title: ClassVar[str] = "HyperBand for BOHB"
    algorithms: ClassVar[tuple[str, ...] | None] = ("bohb",)
    begins_again: ClassVar[bool] = True

    reduction_factor: int = 3
    """One of so many is kept at each halving; at least 2."""

    def __post_init__(self) -> None:
        require_at_least("reduction_factor", self.reduction_factor, 2)

    @override
    def build(self, space: Space, length: int) -> Any:
        from ray.tune.schedulers import HyperBandForBOHB

        return HyperBandForBOHB(time_attr=TIME, max_t=length, reduction_factor=self.reduction_factor)
