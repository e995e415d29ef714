"""What rules are judged by: the findings of the other experiments, and the trials behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from lrscale.laws import LRSliceFit, OptimalLRFit
from lrscale.laws.base import FloatArray
from lrscale.store import Trajectory, Trial
from lrscale.study.cells import at_best_lr
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Finding


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Trials of the smallest and of the largest batch size of a comparison, each at its own best LR."""

    small: int
    large: int
    runs: Mapping[int, tuple[Trial, Trial]]
    """Seed -> trial at the smaller and at the larger batch size."""

    @property
    def lrs(self) -> tuple[float, float]:
        """Peak LR at the smaller and at the larger batch size."""
        first, second = next(iter(self.runs.values()))
        return first.spec.peak_lr, second.spec.peak_lr


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One value of a factor, with the LR slice that was swept there."""

    label: str
    value: float
    fit: LRSliceFit
    trials: tuple[Trial, ...]


@final
@dataclass(frozen=True)
class Evidence:
    """The findings and trials of a study, as rules read them.

    Parameters
    ----------
    context : Context
        With the findings of the experiments that ran before.
    margin : float
        Relative difference of a loss that counts as none, in [0, 1).
    """

    context: Context
    margin: float

    def finding(self, key: str) -> Finding | None:
        """Return the finding of an experiment that has an answer, or None."""
        found = self.context.findings.get(key)
        return found if found is not None and found.status == "ok" else None

    @cached_property
    def slices(self) -> Mapping[int, LRSliceFit]:
        """The LR slice of each batch size of the sweep, ascending; those without a located optimum too."""
        found = self.context.findings.get("scaling")
        cells = () if found is None else found.data.get("cells", ())
        return {int(cell["batch_size"]): LRSliceFit.from_dict(cell["slice"]) for cell in cells}

    @cached_property
    def located(self) -> Mapping[int, LRSliceFit]:
        """Those whose optimum lies inside the LRs tried."""
        return {size: fit for size, fit in self.slices.items() if fit.best_lr is not None}

    @cached_property
    def law(self) -> OptimalLRFit | None:
        """The law of the best LR against the batch size, or None where none was fitted."""
        found = self.context.findings.get("scaling")
        plain = None if found is None else found.data.get("law")
        law = None if plain is None else OptimalLRFit.from_dict(plain)
        return law if law is not None and law.ok else None

    @cached_property
    def trials(self) -> Mapping[int, tuple[Trial, ...]]:
        """The finished trials of the sweep by batch size."""
        found = self.context.findings.get("scaling")
        cells = () if found is None else found.data.get("cells", ())
        known = self.context.view.trials
        return {int(cell["batch_size"]): tuple(known[one] for one in cell["trials"] if one in known) for cell in cells}

    def trajectory(self, trial: Trial) -> Trajectory:
        """Return what a trial has recorded."""
        return self.context.view.load_trajectory(trial.trial_id)

    def at_best_lr(self, batch_size: int) -> Mapping[int, Trial]:
        """Return the completed trials of the LR that is nearest to the best one, among those with the most seeds."""
        fit = self.located.get(batch_size)
        return {} if fit is None else at_best_lr(fit, self.trials.get(batch_size, ()))

    def pair(self, sizes: Iterable[int] | None = None) -> Pair | None:
        """Return the smallest and the largest batch size whose best LR has trials of two common seeds, or None.

        Parameters
        ----------
        sizes : iterable of int or None, optional
            Batch sizes that count. Default None: all of the sweep.
        """
        chosen = sorted(self.located if sizes is None else set(sizes) & self.located.keys())
        runs = {size: self.at_best_lr(size) for size in chosen}
        for large in reversed(chosen):
            for small in chosen:
                common = sorted(runs[small].keys() & runs[large].keys())
                if small < large and len(common) >= 2:
                    return Pair(
                        small=small,
                        large=large,
                        runs={seed: (runs[small][seed], runs[large][seed]) for seed in common},
                    )
        return None

    def factor(self, kind: str) -> tuple[Level, ...] | None:
        """Return the levels of a numeric factor, ascending, with a located optimum; None for fewer than two.

        Parameters
        ----------
        kind : str
            What its entry of the task is called, such as ``"label_noise"``: the last part of its path has these words.
        """
        found = self.context.findings.get("factors")
        known = self.context.view.trials
        for factor in () if found is None else found.data.get("factors", ()):
            if not factor["numeric"] or any(word not in str(factor["name"]).lower() for word in kind.split("_")):
                continue
            levels = [
                Level(
                    label=str(level["label"]),
                    value=float(level["value"]),
                    fit=LRSliceFit.from_dict(level["slice"]),
                    trials=tuple(known[one] for one in level["trials"] if one in known),
                )
                for level in factor["levels"]
                if level.get("slice") is not None
            ]
            located = sorted((level for level in levels if level.fit.best_lr), key=lambda level: level.value)
            if len(located) >= 2:
                return tuple(located)
        return None

    @property
    def horizon(self) -> int | None:
        """Examples of a trial of the sweep."""
        found = self.context.findings.get("scaling")
        value = None if found is None else found.data.get("horizon_examples")
        return value if isinstance(value, int) else None

    @property
    def scope(self) -> str:
        """What the sweep stands on, in words."""
        found = self.context.findings.get("scaling")
        if found is None or self.horizon is None:
            return ""
        return f"{found.data.get('seeds')} seeds, {self.horizon:,} examples, {found.data.get('schedule')} schedule"

    @property
    def monitored(self) -> bool:
        """Whether the loss that trials are compared by is one of validation."""
        known = [trial.record.monitor for some in self.trials.values() for trial in some if trial.record.monitor]
        return bool(known) and "train_loss" not in known


def training_loss(trajectory: Trajectory, lo: float, hi: float, *, against: str) -> float | None:
    """Return the mean training loss of the updates between two points, or None where none lies there.

    The loss of a step is that of the weights before its update, so that it stands for what was trained until then.

    Parameters
    ----------
    trajectory : Trajectory
    lo, hi : float
        Steps or examples done: above `lo` and up to `hi`.
    against : {"step", "examples"}
    """
    at, losses = trajectory.points("train_loss", against)
    if not at.size:
        return None
    steps, _ = trajectory.points("train_loss", "step")
    before: FloatArray = at * (1 - 1 / np.maximum(steps, 1.0))
    inside = losses[(before > lo) & (before <= hi)]
    return float(inside.mean()) if inside.size and bool(np.all(np.isfinite(inside))) else None


def listed(sizes: Sequence[float]) -> str:
    """Return batch sizes as people list them.

    Examples
    --------
    >>> listed([64, 128, 1024])
    '64, 128 and 1,024'
    """
    names = [f"{size:,.15g}" for size in sizes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
