"""Which questions a budget answers, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lrscale.study.budget.allowance import Allowance


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a question still takes."""

    trials: int = 0
    examples: int = 0
    seconds: float | None = 0.0
    """Wall-clock time; None where nothing tells it, which counts as none."""

    def fits(self, left: Allowance) -> bool:
        """Whether an allowance reaches for it."""
        return (
            (left.trials is None or self.trials <= left.trials)
            and (left.examples is None or self.examples <= left.examples)
            and (left.seconds is None or (self.seconds or 0.0) <= left.seconds)
        )

    def taken_from(self, left: Allowance, *, back: Need | None = None) -> Allowance:
        """Return what an allowance leaves after it; `back` is what is given back first.

        Examples
        --------
        >>> Need(trials=3).taken_from(Allowance(trials=5)).trials
        2
        """
        back = back or Need()
        return Allowance(
            trials=None if left.trials is None else left.trials + back.trials - self.trials,
            examples=None if left.examples is None else left.examples + back.examples - self.examples,
            seconds=None if left.seconds is None else left.seconds + (back.seconds or 0.0) - (self.seconds or 0.0),
            at_once=left.at_once,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question, and what each of its forms still takes."""

    key: str
    importance: int
    """Its place in the order in which the budget is given, smaller first."""
    needs: tuple[Need, ...]
    """Of its full form, then of its reduced ones, each cheaper than the one before."""


SMALL_SHARE = 0.2
"""Share of the budget up to which the cheapest form of a question is asked before another one is lifted: what hardly
costs anything is not given up, and what does cannot thin out what a recommendation stands on. Chosen, not
measured."""


def allocate(asks: Sequence[Ask], left: Allowance) -> dict[str, int | None]:
    """Give a budget to questions, in the order of their importance.

    First each whose cheapest form is small gets that; then each is lifted to the fullest form that what is left allows,
    and the others are asked as far as they fit.

    Parameters
    ----------
    asks : sequence of Ask
        Of equal importance those named first come first.
    left : Allowance
        What may still be spent.

    Returns
    -------
    dict of str to int or None
        Form of each question, 0 being the full one; None for a question that is left out.

    Examples
    --------
    >>> asks = [
    ...     Ask(key="range_test", importance=1, needs=(Need(trials=10), Need(trials=2))),
    ...     Ask(key="scaling", importance=2, needs=(Need(trials=30), Need(trials=12))),
    ...     Ask(key="schedules", importance=3, needs=(Need(trials=40),)),
    ... ]
    >>> allocate(asks, Allowance(trials=25))
    {'range_test': 0, 'scaling': 1, 'schedules': None}
    """
    ordered = sorted(asks, key=lambda ask: ask.importance)
    chosen: dict[str, int | None] = {ask.key: None for ask in asks}
    share = _share_of(left)
    for ask in ordered:
        least = len(ask.needs) - 1
        if ask.needs[least].fits(share) and ask.needs[least].fits(left):
            chosen[ask.key] = least
            left = ask.needs[least].taken_from(left)
    for ask in ordered:
        form = chosen[ask.key]
        has = Need() if form is None else ask.needs[form]
        for better in range(len(ask.needs) if form is None else form):
            after = ask.needs[better].taken_from(left, back=has)
            if Need().fits(after):
                chosen[ask.key], left = better, after
                break
    return chosen


def _share_of(left: Allowance) -> Allowance:
    return Allowance(
        trials=None if left.trials is None else int(SMALL_SHARE * left.trials),
        examples=None if left.examples is None else int(SMALL_SHARE * left.examples),
        seconds=None if left.seconds is None else SMALL_SHARE * left.seconds,
    )
