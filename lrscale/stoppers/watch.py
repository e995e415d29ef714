"""A stopper inside of a trial: numbers that came with the job, held against the losses of its validations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from lrscale.stoppers.base import STOPPERS, Bound, Judged


def stopper_settings(name: str, bounds: Mapping[int, Bound]) -> dict[str, Any]:
    """Return what a trial's spec holds of a stopper; empty where no bound can end the trial.

    Such a trial is the same as one without a stopper, and has its id.

    Parameters
    ----------
    name : str
        A registered name.
    bounds : mapping of int to Bound
        By step.

    Examples
    --------
    >>> stopper_settings("median", {20: Bound(loss=2.5, among=6)})
    {'name': 'median', 'bounds': [{'step': 20, 'loss': 2.5, 'among': 6}]}
    >>> stopper_settings("median", {})
    {}
    """
    if not bounds:
        return {}
    rows = [{"step": step, "loss": bounds[step].loss, "among": bounds[step].among} for step in sorted(bounds)]
    return {"name": name, "bounds": rows}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Where a stopper has ended a trial, and why."""

    name: str
    """Of the stopper."""
    step: int
    share: float
    """Of the horizon, in (0, 1)."""
    loss: float
    """What was judged: the loss there, or the best one so far."""
    bound: float
    among: int
    """Earlier trials that the bound was taken from."""

    @property
    def reason(self) -> str:
        """Why, as a sentence."""
        trials = "1 earlier trial" if self.among == 1 else f"{self.among} earlier trials"
        return (
            f"stopped at {100 * self.share:.0f} % of the horizon: loss {self.loss:.5g} at step {self.step} is above "
            f"{self.bound:.5g}, the bound of {self.name} from {trials}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the trial's record keeps of it."""
        return {
            "name": self.name,
            "step": self.step,
            "share": self.share,
            "loss": self.loss,
            "bound": self.bound,
            "among": self.among,
        }


@final
@dataclass(slots=True, kw_only=True)
class LossWatch:
    """Follows the validations of a trial and says where its stopper ends it.

    It sees nothing but numbers that all ranks have agreed on, so that all of them end at the same step.

    Examples
    --------
    >>> watch = LossWatch.of(stopper_settings("median", {20: Bound(loss=2.5, among=6)}), horizon=80)
    >>> watch.judge(10, 2.6) is None
    True
    >>> print(watch.judge(20, 2.75).reason)
    stopped at 25 % of the horizon: loss 2.6 at step 20 is above 2.5, the bound of median from 6 earlier trials
    """

    name: str
    judged: Judged
    bounds: Mapping[int, Bound]
    """By step."""
    horizon: int
    best: float = field(default=math.inf, init=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any], horizon: int) -> LossWatch | None:
        """Return the watch of a spec's stopper, or None where no bound of it can end the trial.

        Parameters
        ----------
        settings : mapping
            `stopper` of a spec. One without ``bounds`` is decided elsewhere, and the trial only bears its name.
        horizon : int
            Steps of the trial.
        """
        rows = settings.get("bounds", ())
        if not rows:
            return None
        name = settings["name"]
        bounds = {row["step"]: Bound(loss=row["loss"], among=row["among"]) for row in rows}
        return cls(name=name, judged=STOPPERS[name].judged, bounds=bounds, horizon=horizon)

    def judge(self, step: int, loss: float) -> Ended | None:
        """Take the finite loss of a validation, and return where the trial ends if it does."""
        self.best = min(self.best, loss)
        bound = self.bounds.get(step)
        judged = loss if self.judged == "latest" else self.best
        if bound is None or judged <= bound.loss:
            return None
        share = step / self.horizon
        return Ended(name=self.name, step=step, share=share, loss=judged, bound=bound.loss, among=bound.among)
