"""One thing that two studies measured, and whether it differs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, final

from lrscale.laws.base import Interval
from lrscale.laws.difference import Difference, verdict_of
from lrscale.laws.recovered import recovered_difference, recovered_ratio
from lrscale.study.finding import Quantity

Scale = Literal["ratio", "difference"]
Kind = Literal["rate", "loss", "share", "number", "count"]
Standing = Literal["differs", "same", "cannot tell"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A number of both studies with the interval of its difference; without one nothing is said to differ."""

    subject: str
    """Key of the subject that made it."""
    name: str
    """What was measured and where, for example ``best peak LR at batch 64``."""
    kind: Kind
    """How the numbers are written."""
    a: Quantity
    b: Quantity
    scale: Scale
    effect: Quantity
    """b over a, or b minus a; its value is None where that cannot be told."""
    margin: float | None
    """Effects up to it do not matter: a factor above 1, or a difference. None: every difference matters."""
    standing: Standing
    """``same`` only where the whole interval lies within the margin."""
    note: str = ""
    """Why it cannot be told, or what stands beside it."""

    @property
    def relative(self) -> tuple[float | None, float | None, float | None]:
        """Effect and its ends as a share of a: b over a minus 1; None of a difference from a that is 0 or not known."""
        base = 1.0 if self.scale == "ratio" else abs(self.a.value or 0.0)

        def share(end: float | None) -> float | None:
            if end is None or not base:
                return None
            return end - 1 if self.scale == "ratio" else end / base

        return share(self.effect.value), share(self.effect.lo), share(self.effect.hi)


def ratio(
    subject: str, name: str, a: Quantity, b: Quantity, *, margin: float | None, kind: Kind = "number", note: str = ""
) -> Contrast:
    """Return b over a; the margin is a factor of at least 1."""
    effect = Quantity(value=None)
    standing: Standing = "cannot tell"
    known = a.value is not None and b.value is not None and a.value > 0 and b.value > 0
    if known and a.confidence == b.confidence:
        value, interval = recovered_ratio(b.value or 0.0, _interval(b), a.value or 0.0, _interval(a))
        effect = Quantity(value=value, lo=interval.lo, hi=interval.hi, confidence=interval.confidence)
        logs = Interval(_log(interval.lo), _log(interval.hi), interval.confidence)
        standing = _standing(logs, 0.0 if margin is None else math.log(margin))
    return Contrast(
        subject=subject, name=name, kind=kind, a=a, b=b, scale="ratio", effect=_told(effect), margin=margin,
        standing=standing, note=note or _why_not(a, b, effect),
    )  # fmt: skip


def difference(
    subject: str, name: str, a: Quantity, b: Quantity, *, margin: float | None, kind: Kind = "number", note: str = ""
) -> Contrast:
    """Return b minus a, of independent estimates."""
    effect = Quantity(value=None)
    standing: Standing = "cannot tell"
    if a.value is not None and b.value is not None and a.confidence == b.confidence:
        value, interval = recovered_difference(b.value, _interval(b), a.value, _interval(a))
        effect = Quantity(value=value, lo=interval.lo, hi=interval.hi, confidence=interval.confidence)
        standing = _standing(interval, margin or 0.0)
    return Contrast(
        subject=subject, name=name, kind=kind, a=a, b=b, scale="difference", effect=_told(effect), margin=margin,
        standing=standing, note=note or _why_not(a, b, effect),
    )  # fmt: skip


def of_difference(
    subject: str, name: str, a: Quantity, b: Quantity, found: Difference, *, kind: Kind = "loss", note: str = ""
) -> Contrast:
    """Return a difference that a law gives, b minus a."""
    ends = found.interval
    effect = Quantity(value=None)
    if ends is not None:
        effect = Quantity(value=found.value, lo=ends.lo, hi=ends.hi, confidence=ends.confidence)
    return Contrast(
        subject=subject, name=name, kind=kind, a=a, b=b, scale="difference", effect=_told(effect),
        margin=found.margin or None, standing=_standing(ends, found.margin), note=note or _why_not(a, b, effect),
    )  # fmt: skip


def untold(
    subject: str, name: str, a: Quantity, b: Quantity, *, scale: Scale, note: str, kind: Kind = "number"
) -> Contrast:
    """Return a contrast that must not be made, with the reason."""
    return Contrast(
        subject=subject, name=name, kind=kind, a=a, b=b, scale=scale, effect=Quantity(value=None), margin=None,
        standing="cannot tell", note=note,
    )  # fmt: skip


def _standing(interval: Interval | None, margin: float) -> Standing:
    verdict = "cannot tell" if interval is None else _one_sided(interval, margin)
    if verdict == "equivalent":
        return "same"
    return "differs" if verdict in ("lower", "higher") else "cannot tell"


def _one_sided(interval: Interval, margin: float) -> str:
    # An open end does not hide that the other one excludes equality.
    if interval.lo is not None and interval.lo > 0 and interval.hi is None:
        return "higher"
    if interval.hi is not None and interval.hi < 0 and interval.lo is None:
        return "lower"
    return verdict_of(interval, margin)


def _told(effect: Quantity) -> Quantity:
    # A difference is shown with an interval or not at all.
    return effect if effect.lo is not None or effect.hi is not None else Quantity(value=None)


def _why_not(a: Quantity, b: Quantity, effect: Quantity) -> str:
    if a.value is None or b.value is None:
        return "neither has a value" if a.value is None and b.value is None else "one of them has no value"
    if effect.lo is None and effect.hi is None:
        return "one of them has no interval"
    return ""


def _interval(number: Quantity) -> Interval:
    return Interval(number.lo, number.hi, number.confidence)


def _log(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def contrast_dict(one: Contrast) -> dict[str, Any]:
    """Return JSON values."""
    import dataclasses

    return dataclasses.asdict(one)
