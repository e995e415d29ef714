"""The batch size grows linearly with the examples seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import override

from lrscale.batch_schedules.base import (
    BATCH_SCHEDULES,
    AbstractBatchSchedule,
    require_multiple,
    require_power,
    require_share,
)
from lrscale.schedules.base import ROUNDING


@final
@BATCH_SCHEDULES.register("linear_ramp")
@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRamp(AbstractBatchSchedule):
    """Grow from the first batch to a multiple of it over the first share of the examples, then stay there.

    References
    ----------
    .. [1] Brown et al. "Language models are few-shot learners." arXiv:2005.14165 (2020), appendix B: from 32k tokens
       linearly to the full batch over the first 4 to 12 billion tokens.

    Examples
    --------
    >>> [LinearRamp(times=4, ramp_fraction=0.5).multiple(position, horizon=12) for position in range(8)]
    [1, 1, 2, 2, 3, 3, 4, 4]
    """

    times: int = 8
    """Multiple of the first batch at the end of the ramp, at least 1."""
    ramp_fraction: float = 0.5
    """Share of the examples over which it grows, in (0, 1]."""
    lr_power: float = 0.0
    """Power of the multiple by which the LR is multiplied, at least 0."""

    def __post_init__(self) -> None:
        require_multiple("times", self.times)
        require_share("ramp_fraction", self.ramp_fraction)
        require_power("lr_power", self.lr_power)

    @override
    def multiple(self, position: int, horizon: int, decay: float = 1.0) -> int:
        del decay
        share = min(1.0, position / (self.ramp_fraction * horizon))
        return int((1 + (self.times - 1) * share) * (1 + ROUNDING))
