"""What a study may spend, what a device costs, and how fast it trains: amounts with their units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, final

from lrscale.errors import LrscaleError
from lrscale.units import exact_number, short_number

BudgetUnit = Literal["seconds", "examples", "trials"]

_NUMBER = r"[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_COUNTED = re.compile(rf"^\s*({_NUMBER})\s*([kMBG]?)\s*(examples?|trials?)\s*$")
_TIME = re.compile(rf"\s*({_NUMBER})\s*(days?|d|hours?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-zA-Z])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MOST = 10**18
_PRICE = re.compile(rf"^\s*([^\d\s.+-]*)\s*({_NUMBER})\s*([^\d\s.+-]*)\s*$")
_SPEED = re.compile(rf"^\s*({_NUMBER})\s*([kMBG]?)\s*examples?\s*(?:/\s*s(?:ec|econd)?|a second|per second)\s*$")


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """What a study may spend in all, over all runs of it.

    Parameters
    ----------
    value : float
        Positive; a whole number of examples or trials.
    unit : {"seconds", "examples", "trials"}
        Seconds are wall-clock time in which the study runs.

    Examples
    --------
    >>> Budget.parse("30m"), Budget.parse("1h 30 min")
    (Budget(value=1800.0, unit='seconds'), Budget(value=5400.0, unit='seconds'))
    >>> str(Budget.parse("1.5M examples")), str(Budget.parse("20 trials")), str(Budget.parse("90m"))
    ('1.5M examples', '20 trials', '1h 30m')
    """

    value: float
    unit: BudgetUnit

    def __post_init__(self) -> None:
        if not 0 < self.value <= _MOST:
            raise LrscaleError(f"a budget must be positive and at most {_MOST:.0e}, not {self.value:g} {self.unit}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``"30m"``, ``"2h"``, ``"1h 30m"``, ``"1.5 days"``, ``"1e6 examples"`` or ``"20 trials"``.

        Raises
        ------
        LrscaleError
            When the text has no unit, an unknown one, or a value that is not positive.
        """
        counted = _COUNTED.match(text)
        if counted is not None:
            number, suffix, noun = counted.groups()
            unit = cast(BudgetUnit, f"{noun.rstrip('s')}s")
            value = exact_number(number, suffix)
            if value <= _MOST and value % 1:
                raise LrscaleError(f"{text!r} is not a whole number of {unit}")
            return cls(float(value), unit)
        parts, end = [], 0
        while (found := _TIME.match(text, end)) is not None:
            parts.append((found[1], found[2][0]))
            end = found.end()
        order = ["dhms".index(unit) for _, unit in parts]
        if not parts or text[end:].strip() or order != sorted(set(order)):
            raise LrscaleError(
                f"{text!r} is not a budget", hint='write for example "30m", "2h", "1e6 examples" or "20 trials"'
            )
        return cls(float(sum(exact_number(number) * _SECONDS[unit] for number, unit in parts)), "seconds")

    def __str__(self) -> str:
        if self.unit != "seconds":
            return f"{short_number(self.value)} {self.unit[:-1] if self.value == 1 else self.unit}"
        words, left = [], Decimal(repr(self.value))
        for unit in "dhm":
            # Up to two days are told in hours: "36h" is what people write.
            if unit == "d" and self.value < 2 * _SECONDS["d"]:
                continue
            whole, left = divmod(left, _SECONDS[unit])
            if whole:
                words.append(f"{whole:f}{unit}")
        if left or not words:
            words.append(f"{left.normalize():f}s")
        return " ".join(words)


@final
@dataclass(frozen=True, slots=True)
class Price:
    """What an hour of one device costs.

    Examples
    --------
    >>> Price.parse("2.5 EUR").of(4.0), Price.parse("2.5").of(4.0), Price.parse("$3").of(1.0)
    ('10.00 EUR', '10.00', '$3.00')
    """

    value: float
    """Money for a device-hour, at least 0."""
    currency: str = ""
    """As it was written; it is printed and never converted."""
    before: bool = False
    """Whether the currency stands before the number."""

    @classmethod
    def parse(cls, text: str) -> Price:
        """Read ``"2.5"``, ``"2.5 EUR"`` or ``"$2.5"``.

        Raises
        ------
        LrscaleError
            When it is no number with at most one currency.
        """
        found = _PRICE.match(text)
        if found is None or (found[1] and found[3]):
            raise LrscaleError(f"{text!r} is not a price of a device-hour", hint='write for example "2.5" or "2.5 EUR"')
        value = float(exact_number(found[2]))
        return cls(value, found[1] or found[3], before=bool(found[1]))

    def of(self, device_hours: float) -> str:
        """Return what some device-hours cost, with the currency."""
        amount = f"{self.value * device_hours:,.2f}"
        if self.before:
            return f"{self.currency}{amount}"
        return f"{amount} {self.currency}".rstrip()

    def __str__(self) -> str:
        amount = f"{Decimal(repr(self.value)).normalize():f}"
        return f"{self.currency}{amount}" if self.before else f"{amount} {self.currency}".rstrip()


@final
@dataclass(frozen=True, slots=True)
class Speed:
    """Examples a second that one trial trains on all of its devices.

    Examples
    --------
    >>> Speed.parse("3000 examples/s"), str(Speed.parse("3k examples/s"))
    (Speed(value=3000.0), '3k examples/s')
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= _MOST:
            raise LrscaleError(f"a throughput must be positive, not {self.value:g} examples/s")

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Read ``"3000 examples/s"``.

        Raises
        ------
        LrscaleError
            When the text is not a positive number of examples a second.
        """
        found = _SPEED.match(text)
        if found is None:
            raise LrscaleError(f"{text!r} is not a throughput", hint='write for example "3000 examples/s"')
        return cls(float(exact_number(found[1], found[2])))

    def __str__(self) -> str:
        return f"{short_number(self.value)} examples/s"
