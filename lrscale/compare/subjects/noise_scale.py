"""The noise scale of the gradient."""

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


SUBJECTS.register(NoiseScale.key)(NoiseScale())
