"""The critical batch size and the noise scale of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, ratio
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.recommend.words import count
from lrscale.study.finding import Quantity

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


@final
class NoiseScale(AbstractSubject):
    """Ratio of the gradient noise scales at each batch size at which both were measured."""

    key: ClassVar[str] = "noise_scale"
    title: ClassVar[str] = "Gradient noise scale"
    method: ClassVar[str] = (
        "Measured along training at the best LR of each batch size. The interval of the ratio is recovered from those "
        "of both; a factor of 1.25 does not matter."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        tables = []
        for side in (a, b):
            finding = side.finding("noise_scale")
            rows = () if finding is None else finding.tables.get("batch_sizes", ())
            tables.append({int(row["batch_size"]): row for row in rows})
        return [
            ratio(
                self.key,
                f"noise scale at batch {count(size)}",
                *(
                    Quantity(value=table[size]["noise_scale"], lo=table[size]["lo"], hi=table[size]["hi"])
                    for table in tables
                ),
                margin=MARGIN,
                kind="count",
            )
            for size in sorted(tables[0].keys() & tables[1].keys())
        ]


SUBJECTS.register(CriticalBatch.key)(CriticalBatch())
SUBJECTS.register(NoiseScale.key)(NoiseScale())
