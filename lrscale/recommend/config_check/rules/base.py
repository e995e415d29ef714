"""What a rule of a launch config is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from lrscale.recommend.words import percent
from lrscale.registry import Registry
from lrscale.study.finding import CheckStatus

if TYPE_CHECKING:
    from lrscale.recommend.config_check.calibration import Calibration

COSTLY = 0.01
"""Relative loss above the best from which on a setting is refused: ten times the default tolerance of 0.1 %."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a rule says about a config."""

    rule: str
    """Key of the rule."""
    status: CheckStatus
    """FAIL: outside of what was calibrated; WARNING: look at it; INFO: it cannot be told."""
    value: str | None
    """What the config sets, with its key."""
    sentence: str
    """The value, and what was measured."""
    remedy: str | None = None


class AbstractRule(ABC):
    """One question to a launch config, answered by the trials of a study."""

    key: ClassVar[str]
    question: ClassVar[str]
    """For people, in one line."""

    @abstractmethod
    def judge(self, calibration: Calibration) -> Judgement | None:
        """Return the answer, or None where the question does not arise.

        Parameters
        ----------
        calibration : Calibration
            A study that was asked about the config.
        """

    def says(self, status: CheckStatus, value: str | None, sentence: str, remedy: str | None = None) -> Judgement:
        """Return a judgement of this rule."""
        return Judgement(rule=self.key, status=status, value=value, sentence=sentence, remedy=remedy)


RULES: Registry[AbstractRule] = Registry("rule of a launch config")


def share_of_loss(share: float) -> str:
    """Return a part of the loss as a signed percentage, or as a multiple where it is larger than the loss.

    Examples
    --------
    >>> share_of_loss(0.0043), share_of_loss(15.2)
    ('+0.43 %', '+15 times')
    """
    return percent(share) if abs(share) < 1 else f"{share:+.2g} times"
