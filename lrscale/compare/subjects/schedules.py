"""What each schedule costs against another one, in both studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, final

from typing_extensions import override

from lrscale.compare.contrast import Contrast, difference
from lrscale.compare.subjects.base import SUBJECTS, AbstractSubject
from lrscale.laws import LRSliceFit
from lrscale.laws.minima import minima_difference
from lrscale.study.finding import Quantity

if TYPE_CHECKING:
    from lrscale.compare.setup import Setup
    from lrscale.compare.side import Side


@final
class Schedules(AbstractSubject):
    """Difference of the relative gaps between schedules: whether a schedule pays more in one study than in the other.

    The gaps are relative to each study's own loss, so that they can be compared where losses cannot.
    """

    key: ClassVar[str] = "schedules"
    title: ClassVar[str] = "Schedules"
    method: ClassVar[str] = (
        "Within each study the loss of a schedule at its own best LR is held against that of one common schedule, "
        "relative to the latter and paired by seed. The interval of the difference of these gaps is recovered from "
        "those of both."
    )

    @override
    def contrasts(self, a: Side, b: Side, setup: Setup) -> Sequence[Contrast]:
        one, other = schedule_fits(a), schedule_fits(b)
        common = [label for label in one if label in other and one[label].ok and other[label].ok]
        if len(common) < 2:
            return []
        reference = min(common, key=lambda label: float(one[label].min_loss or 0.0))
        return [
            difference(
                self.key,
                f"{label} against {reference}, relative loss",
                _gap(one, label, reference),
                _gap(other, label, reference),
                margin=setup.tolerance,
                kind="share",
            )
            for label in common
            if label != reference
        ]


def schedule_fits(side: Side) -> dict[str, LRSliceFit]:
    """Return the fitted slice of each compared schedule, by its label."""
    finding = side.finding("schedules")
    entries = () if finding is None else finding.data.get("schedules", ())
    return {
        str(entry.get("label") or entry["name"]): LRSliceFit.from_dict(entry["slice"])
        for entry in entries
        if entry.get("slice") and entry["slice"].get("status")
    }


def verdicts(side: Side) -> str | None:
    """Return what a study says of each schedule, in words; None without a comparison."""
    finding = side.finding("schedules")
    if finding is None or not finding.data.get("schedules"):
        return None
    named: dict[str, list[str]] = {}
    for entry in finding.data["schedules"]:
        named.setdefault(str(entry.get("verdict")), []).append(str(entry.get("label") or entry["name"]))
    known = [
        f"{verdict}: {', '.join(named[verdict])}"
        for verdict in ("best", "lowest", "tied", "worse", "cannot tell")
        if verdict in named
    ]
    return "; ".join(known)


def _gap(fits: dict[str, LRSliceFit], label: str, reference: str) -> Quantity:
    base = fits[reference]
    found = minima_difference(fits[label], base, confidence=base.confidence, beside=list(fits.values()))
    level = abs(base.min_loss or 0.0)
    if found.interval is None or found.value is None or not level:
        return Quantity(value=None)
    lo, hi = found.interval.lo, found.interval.hi
    return Quantity(
        value=found.value / level,
        lo=None if lo is None else lo / level,
        hi=None if hi is None else hi / level,
        confidence=base.confidence,
    )


SUBJECTS.register(Schedules.key)(Schedules())
