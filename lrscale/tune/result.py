"""What a range test of a live module hands back: curves, what the rules say, and what fixed LRs decided."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from lrscale.errors import LrscaleError
from lrscale.laws import Interval, RangeFinding
from lrscale.laws.range_test.confirmation import Confirmation, OneCyclePair

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCurve:
    """One ramp."""

    seed: int
    lr: tuple[float, ...]
    """LR of the reference group at each recorded step, or at each rung of a staircase, increasing."""
    loss: tuple[float, ...]
    """Raw value of each: mean over micro-batches and ranks; the negative of a metric that is to be large."""
    diverged_at: float | None = None
    """LR at which the ramp was stopped as diverged, or None."""
    reason: str | None = None
    """Why it was stopped."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RangeFamily:
    """The ramps of one batch size, what they say, and what short runs at fixed LR decided."""

    batch_size: int | None
    """Global batch size in examples; None where the loader does not say."""
    curves: tuple[RangeCurve, ...]
    """One a seed."""
    finding: RangeFinding
    """The bracket and the suggestions of the published rules."""
    confirmation: Confirmation | None
    """None where no confirmation was asked for."""

    @property
    def lr(self) -> float | None:
        """The confirmed LR; None where the runs at fixed LR confirm none, or where there were none."""
        return None if self.confirmation is None else self.confirmation.lr

    @property
    def interval(self) -> Interval | None:
        """Interval of the confirmed LR."""
        return None if self.confirmation is None else self.confirmation.interval

    @property
    def max_stable_lr(self) -> float | None:
        """Largest LR at which every run at fixed LR trained, with no divergence below; None without such runs."""
        stable = None if self.confirmation is None else self.confirmation.stable
        return None if stable is None else stable.lo

    @property
    def one_cycle(self) -> OneCyclePair | None:
        """Base and largest LR for a one-cycle schedule; derived, not measured."""
        return None if self.confirmation is None else self.confirmation.one_cycle

    def summary(self) -> str:
        """Return the family as text, one quantity a line."""
        parts = [self.finding.summary()]
        if self.confirmation is not None:
            parts.append(self.confirmation.summary())
        text = "\n".join(parts)
        return text if self.batch_size is None else f"batch {self.batch_size:,}\n{text}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTestResult:
    """Range tests of a live module, one family of ramps for each batch size.

    It prints its summary, draws itself with `plot`, and shows both in a notebook. With one batch size the answers are
    attributes (`lr`, `interval`, `max_stable_lr`, `one_cycle`); with several, ``result[batch_size]`` has them.
    """

    families: tuple[RangeFamily, ...]
    """In the order of the batch sizes that were asked for."""
    monitor: str
    """What the curves are of."""
    confirmed_by: str | None
    """What the runs at fixed LR were compared by; None without such runs."""
    steps: int
    """Steps of a ramp."""
    confirm_steps: int | None
    """Steps of a run at fixed LR."""
    notes: tuple[str, ...] = ()
    """What a reader must know of how this was measured."""

    def __getitem__(self, batch_size: int) -> RangeFamily:
        """Return the family of a global batch size."""
        for family in self.families:
            if family.batch_size == batch_size:
                return family
        known = ", ".join(str(family.batch_size) for family in self.families)
        raise LrscaleError(f"there is no range test at batch {batch_size}", hint=f"known: {known}")

    @property
    def lr(self) -> float | None:
        """The confirmed LR of the only batch size, or None."""
        return self._only().lr

    @property
    def interval(self) -> Interval | None:
        """Interval of the confirmed LR of the only batch size, or None."""
        return self._only().interval

    @property
    def max_stable_lr(self) -> float | None:
        """Largest LR of the only batch size at which every run at fixed LR trained, or None."""
        return self._only().max_stable_lr

    @property
    def one_cycle(self) -> OneCyclePair | None:
        """Base and largest LR for a one-cycle schedule at the only batch size, or None."""
        return self._only().one_cycle

    def summary(self) -> str:
        """Return everything as text."""
        lines = [family.summary() for family in self.families]
        compared = "" if self.confirmed_by is None else f"; fixed LRs compared by {self.confirmed_by}"
        lines.append(f"curves of {self.monitor}{compared}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the ramps with their bracket and the confirmed LR.

        Parameters
        ----------
        ax : matplotlib Axes or None, optional
            Where to draw. Default None: a new figure of pyplot.

        Returns
        -------
        matplotlib Axes
        """
        from lrscale.tune.plot import draw

        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(7.0, 4.2), layout="constrained")[1]
        draw(self, ax)
        return ax

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-safe mapping."""
        return {
            "monitor": self.monitor,
            "confirmed_by": self.confirmed_by,
            "steps": self.steps,
            "confirm_steps": self.confirm_steps,
            "notes": list(self.notes),
            "families": [_family(family) for family in self.families],
        }

    def _repr_html_(self) -> str:
        from matplotlib.figure import Figure

        from lrscale.tune.plot import draw

        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        draw(self, figure.add_subplot())
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg")
        picture = drawn.getvalue()
        return f"<div>{picture[picture.index('<svg') :]}<pre>{html.escape(self.summary())}</pre></div>"

    def _only(self) -> RangeFamily:
        if len(self.families) != 1:
            sizes = [family.batch_size for family in self.families]
            raise LrscaleError(f"the result has several batch sizes: {sizes}", hint=f"ask result[{sizes[0]}]")
        return self.families[0]


def _family(family: RangeFamily) -> Mapping[str, Any]:
    return {
        "batch_size": family.batch_size,
        "curves": [
            {
                "seed": curve.seed,
                "lr": list(curve.lr),
                "loss": [value if abs(value) != float("inf") and value == value else None for value in curve.loss],
                "diverged_at": curve.diverged_at,
                "reason": curve.reason,
            }
            for curve in family.curves
        ],
        "finding": family.finding.to_dict(),
        "confirmation": None if family.confirmation is None else family.confirmation.to_dict(),
    }
