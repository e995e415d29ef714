"""The critical batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, ratio
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side

MARGIN = 1.25
"""Factor that does not matter: batch sizes are chosen in powers of two."""


@final
class CriticalBatch(AbstractSubject):
    """Ratio of the knees of steps against batch size."""

    key: ClassVar[str] = "critical_batch"
    title: ClassVar[str] = "Critical batch size"
    method: ClassVar[str] = (
        "The critical batch size of each study is that of its own target loss. The interval of the ratio is recovered "
        "from those of both; a factor of 1.25 does not matter, since batch sizes are chosen in powers of two."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        found, targets = [], []
        for side in (a, b):
            scaling = side.finding("scaling")
            known = None if scaling is None else scaling.numbers.get("critical_batch")
            if scaling is None or known is None:
                return []
            found.append(known)
            targets.append(scaling.data["target_loss"]["target"])
        told = "critical batch size"
        note = "" if targets[0] == targets[1] else f"at loss {targets[0]:.4g} and {targets[1]:.4g}"
        return [ratio(self.key, told, found[0], found[1], margin=MARGIN, kind="count", note=note)]


SUBJECTS.register(CriticalBatch.key)(CriticalBatch())
