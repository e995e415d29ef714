"""What every rule of thumb is: a claim about training, and a ruling on it from the trials of a study."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from lrscale.laws.claim import Claim, ClaimVerdict
from lrscale.registry import Registry
from lrscale.study.rules.evidence import Evidence
from lrscale.study.words import number


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the trials say of a rule."""

    claim: Claim | None
    """The test; None where the trials leave nothing to test."""
    sentence: str
    """What was seen, with its interval; or why it cannot be told."""
    effect: str = ""
    """The effect with its interval, as short as a cell of a table; empty where there is none."""
    margin: str = ""
    """What the effect must exceed, in words."""
    scope: str = ""
    """What it stands on: batch sizes, seeds, length."""
    breaks: str = ""
    """Where the rule ends or bends, where that is seen; empty otherwise."""
    needs: str = ""
    """What to add to the recipe so that the rule can be told; empty where it was."""
    unit: str = ""
    """Of the effect: "power", "of the loss", "times"."""

    @property
    def verdict(self) -> ClaimVerdict:
        """Whether the rule holds on this model."""
        return "cannot tell" if self.claim is None else self.claim.verdict

    @classmethod
    def untold(cls, why: str, needs: str, **more: str) -> Ruling:
        """Return the ruling of a rule that the trials say nothing of."""
        return cls(claim=None, sentence=why, needs=needs, **more)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        plain = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        return {**plain, "claim": None if self.claim is None else self.claim.to_dict(), "verdict": self.verdict}


class AbstractRule(ABC):
    """A rule of thumb.

    `judge` reads what other experiments have left and trains nothing. It states the rule as an effect that must exceed
    a margin, so that three answers are possible: it does, it does not, or the interval holds the margin. None is given
    from a point estimate.
    """

    key: ClassVar[str]
    claim: ClassVar[str]
    """The rule as people say it."""

    @abstractmethod
    def judge(self, evidence: Evidence) -> Ruling:
        """Return what the trials say of the rule."""


RULES: Registry[AbstractRule] = Registry("rule")
"""Rules of thumb, in the order of the table."""


def share_text(claim: Claim) -> str:
    """Return a relative effect as a percentage with its interval.

    Examples
    --------
    >>> share_text(Claim.of_t(0.042, 0.005, 2))
    '+4.2 % (95 % +2.0 to +6.4 %)'
    """
    return f"{_signed(claim.value)} % {_ends(claim, _signed, ' %')}"


def power_text(claim: Claim) -> str:
    """Return an effect with its interval.

    Examples
    --------
    >>> power_text(Claim.of_t(0.5, 0.05, 4))
    '0.50 (95 % 0.36 to 0.64)'
    """
    return f"{_two(claim.value)} {_ends(claim, _two, '')}"


def _ends(claim: Claim, text: Any, unit: str) -> str:
    share = f"{100 * claim.confidence:.0f} %"
    if claim.lo is None and claim.hi is None:
        return "(no interval)"
    if claim.lo is None or claim.hi is None:
        end = claim.hi if claim.lo is None else claim.lo
        return f"({share} {'below' if claim.lo is None else 'above'} {text(end)}{unit})"
    return f"({share} {text(claim.lo)} to {text(claim.hi)}{unit})"


def _two(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= abs(value) < 10 else number(value)


def _signed(value: float) -> str:
    percent = 100 * value
    digits = 0 if abs(percent) >= 10 else 1 if abs(percent) >= 1 else 2
    return f"{percent:+.{digits}f}"


def row(rule: AbstractRule, ruling: Ruling, jointly: bool) -> Mapping[str, Any]:
    """Return a ruling as a row of the finding."""
    claim = ruling.claim
    return {
        "rule": rule.key,
        "claim": rule.claim,
        "verdict": ruling.verdict,
        "value": None if claim is None else claim.value,
        "lo": None if claim is None else claim.lo,
        "hi": None if claim is None else claim.hi,
        "unit": ruling.unit,
        "threshold": None if claim is None else claim.threshold,
        "margin": ruling.margin,
        "p_value": None if claim is None else claim.p_value,
        "jointly": jointly,
        "effect": ruling.effect,
        "sentence": ruling.sentence,
        "breaks": ruling.breaks,
        "scope": ruling.scope,
        "needs": ruling.needs,
    }
