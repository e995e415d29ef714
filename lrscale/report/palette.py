"""The colours of a report: one role, one colour on every page, in light and in dark."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import final

ROLES: dict[str, tuple[str, str]] = {
    "ink": ("#1a1f26", "#e8eaed"),
    "muted": ("#57606b", "#a6afba"),
    "axis": ("#8a929c", "#6f7883"),
    "grid": ("#e3e6ea", "#30363d"),
    "card": ("#fefefe", "#171b21"),
    "page": ("#f3f4f6", "#0e1116"),
    "accent": ("#0b5fa5", "#6cb2f2"),
    "bad": ("#a8320a", "#ff9c70"),
    "warn": ("#7a5200", "#e6b450"),
    "good": ("#1a6b3c", "#6fcf97"),
    "rule-a": ("#7b4fa0", "#c6a2e8"),
    "rule-b": ("#00706b", "#5fc9c0"),
    "rule-c": ("#96530d", "#e0a35e"),
}
"""Role: colour on light, colour on dark. Text roles have a contrast of at least 4.5 with card and page, marks 3."""

LEVELS = 12
"""Colours along the LR scale."""

# Twelve steps of matplotlib's plasma map (van der Walt and Smith 2015), whose lightness is monotone for all kinds of
# colour vision. Each background uses the part that keeps a contrast of 3 with it; the largest LR has the most.
LR_LIGHT = (
    "#df6263", "#d5536f", "#c8437b", "#bb3488", "#ac2694", "#9c179e",
    "#8a09a5", "#7701a8", "#6300a7", "#4e02a2", "#38049a", "#20068f",
)  # fmt: skip
LR_DARK = (
    "#b6308b", "#c43e7f", "#d14e72", "#dc5d67", "#e66c5c", "#ef7c51",
    "#f68f44", "#fba139", "#fdb42f", "#fdc827", "#f8df25", "#f1f525",
)  # fmt: skip


def color(role: str) -> str:
    """Return the light colour of a role, which stands for the role inside a figure until it is written as SVG."""
    return ROLES[role][0]


def lr_color(level: int) -> str:
    """Return the light colour of a level of the LR scale, 0 for the smallest LR."""
    return LR_LIGHT[level]


@cache
def variables() -> dict[str, str]:
    """Return the CSS variable of each light colour, for rewriting a figure so that it follows the page's theme."""
    named = {pair[0]: f"var(--{role})" for role, pair in ROLES.items()}
    return {**named, **{hexa: f"var(--lr-{level})" for level, hexa in enumerate(LR_LIGHT)}}


def css_variables(*, dark: bool) -> str:
    """Return the declarations of all colours for one theme."""
    roles = [f"--{role}:{pair[dark]}" for role, pair in ROLES.items()]
    levels = [f"--lr-{level}:{hexa}" for level, hexa in enumerate(LR_DARK if dark else LR_LIGHT)]
    return ";".join(roles + levels)


@final
@dataclass(frozen=True, slots=True)
class LRScale:
    """Levels of colour for the learning rates of one study, in order.

    Examples
    --------
    >>> scale = LRScale.of([0.1, 0.01, 1.0])
    >>> [scale.level(lr) for lr in scale.rates]
    [0, 6, 11]
    """

    rates: tuple[float, ...]

    @classmethod
    def of(cls, rates: Iterable[float]) -> LRScale:
        """Return the scale of the distinct rates."""
        return cls(tuple(sorted(set(rates))))

    def level(self, lr: float) -> int:
        """Return the level of a rate by its rank, from 0 to ``LEVELS - 1``."""
        if len(self.rates) < 2:
            return LEVELS - 1
        rank = min(bisect_left(self.rates, lr * (1 - 1e-9)), len(self.rates) - 1)
        return round(rank * (LEVELS - 1) / (len(self.rates) - 1))

    def color(self, lr: float) -> str:
        """Return the figure colour of a rate."""
        return lr_color(self.level(lr))
