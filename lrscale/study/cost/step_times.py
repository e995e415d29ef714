"""The time of a step at any layout, from those that were timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

from lrscale.laws.step_time import StepTimeFit, TimedLayout, fit_step_time
from lrscale.study.cost.timed_trial import TimedTrial
from lrscale.study.cost.trial_cost import Basis
from lrscale.units import Layout

Key = tuple[int, int, int]
"""Examples of a forward, forwards of a step, ranks."""
FIT_DRAWS = 20
"""Resamples of the fit, whose intervals are not used here."""


@final
@dataclass(frozen=True, slots=True)
class StepTimes:
    """Mean step times by layout.

    A layout that was timed has its own mean. Between sizes timed on as many ranks the time of a forward is taken as a
    line through the nearest two. Another number of ranks follows from the model of `lrscale.laws.step_time` where that
    can be fitted. Beyond the sizes timed a forward takes at least as long as the nearest one and no longer than in
    proportion to its examples (times of a fixed and a proportional part lie between): the geometric mean of the two.
    """

    means: Mapping[Key, float]
    settled: bool = True
    """Whether they are of steps after the first ones; if not, none counts as measured."""
    _fits: list[StepTimeFit] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, *groups: Iterable[TimedTrial], settled: bool = True) -> StepTimes:
        """Return the means over trials, weighted by their steps.

        Parameters
        ----------
        *groups : iterable of TimedTrial
            The most telling ones first; a further group speaks of the layouts that those before it do not have.
        settled : bool, optional
            Whether any of them went on beyond its first steps. Default True.
        """
        means: dict[Key, float] = {}
        for group in reversed(groups):
            means |= _means(group)
        return cls(means, settled)

    def seconds(self, layout: Layout) -> tuple[float | None, Basis]:
        """Return the time of a step at a layout, and how it is known."""
        found, basis = self._seconds(layout)
        return found, basis if self.settled or found is None else "beyond"

    def _seconds(self, layout: Layout) -> tuple[float | None, Basis]:
        size, forwards, ranks = _key(layout)
        known = self.means.get((size, forwards, ranks))
        if known is not None:
            return known, "measured"
        line = {own: time / many for (own, many, count), time in sorted(self.means.items()) if count == ranks}
        if line:
            one, basis = _on_line(line, size)
            return one * forwards, basis
        fit = self._fit()
        if fit is not None and fit.model is not None and fit.can_predict(ranks):
            return fit.model.seconds(size, ranks, forwards), "beyond"
        if self.means:
            nearest = min(self.means, key=lambda key: abs(key[2] - ranks))[2]
            line = {own: time / many for (own, many, count), time in self.means.items() if count == nearest}
            return _on_line(line, size)[0] * forwards, "beyond"
        return None, "unknown"

    def _fit(self) -> StepTimeFit | None:
        if not self.means:
            return None
        if not self._fits:
            rows = [
                TimedLayout(per_device_batch_size=size, ranks=ranks, accumulate=many, seconds=time)
                for (size, many, ranks), time in self.means.items()
            ]
            self._fits.append(fit_step_time(rows, draws=FIT_DRAWS))
        return self._fits[0]


def _on_line(line: Mapping[int, float], size: int) -> tuple[float, Basis]:
    """Return the time of a forward from those of other sizes, and how it is known."""
    if size in line:
        return line[size], "measured"
    below = max((own for own in line if own < size), default=None)
    above = min((own for own in line if own > size), default=None)
    if below is not None and above is not None:
        share = (size - below) / (above - below)
        return (1 - share) * line[below] + share * line[above], "between"
    nearest = below if below is not None else above
    assert nearest is not None
    return line[nearest] * float(size / nearest) ** 0.5, "beyond"


def _means(trials: Iterable[TimedTrial]) -> dict[Key, float]:
    sums: dict[Key, tuple[float, int]] = {}
    for trial in trials:
        time, steps = sums.get(_key(trial.layout), (0.0, 0))
        sums[_key(trial.layout)] = (time + trial.steps * trial.step, steps + trial.steps)
    return {key: time / steps for key, (time, steps) in sums.items()}


def _key(layout: Layout) -> Key:
    return layout.per_device_batch_size, layout.accumulate, layout.world_size
