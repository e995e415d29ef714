"""Noise scales of a study's trials, put together by setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from lrscale.laws.noise_scale import NoiseScale, RunNoiseScale, combine_noise_scales
from lrscale.store import Trial

INSTRUMENT = "noise_scale"
"""Name of the instrument, in a trial's spec and in its record."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseScaleCell:
    """Trials that differ in nothing but their seed, and what they say together."""

    batch_size: int
    lr: float
    """Peak LR."""
    schedule: str
    horizon: int
    """Steps."""
    trials: tuple[Trial, ...]
    total: NoiseScale
    """Of the second half of training: the first steps, whose gradients are large, would outweigh all others."""
    groups: Mapping[str, NoiseScale]
    """The same by parameter group."""
    preconditioned: NoiseScale
    preconditioned_groups: Mapping[str, NoiseScale]
    whole: NoiseScale
    """Of the whole of training."""
    course: tuple[NoiseScale, ...]
    """In windows over the whole of training, in order."""

    @property
    def own(self) -> bool:
        """Whether the trials were run for this measurement."""
        return INSTRUMENT in self.trials[0].spec.instruments

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "batch_size": self.batch_size,
            "lr": self.lr,
            "schedule": self.schedule,
            "horizon": self.horizon,
            "own": self.own,
            "trials": [trial.trial_id for trial in self.trials],
            "total": self.total.to_dict(),
            "groups": {name: one.to_dict() for name, one in self.groups.items()},
            "preconditioned": self.preconditioned.to_dict(),
            "preconditioned_groups": {name: one.to_dict() for name, one in self.preconditioned_groups.items()},
            "whole": self.whole.to_dict(),
            "course": [one.to_dict() for one in self.course],
        }


@final
@dataclass(frozen=True, slots=True)
class Measurement:
    """What a trial measured."""

    whole: RunNoiseScale
    late: RunNoiseScale
    """Of the second half of its steps."""


def measurement(trial: Trial) -> Measurement | None:
    """Return what a trial measured of its noise scale, or None."""
    plain = trial.record.measurements.get(INSTRUMENT)
    if plain is None:
        return None
    return Measurement(RunNoiseScale.from_dict(plain["whole"]), RunNoiseScale.from_dict(plain["late"]))


def noise_scale_cells(trials: Iterable[Trial]) -> list[NoiseScaleCell]:
    """Return a cell for each setting whose trials ran to their horizon and measured something.

    Ramps are left out, whose LR is not one number.
    """
    found: dict[tuple[Any, ...], list[tuple[Trial, Measurement]]] = {}
    for trial in trials:
        spec = trial.spec
        if trial.record.status != "completed" or spec.schedule.name == "ramp":
            continue
        run = measurement(trial)
        if run is None or run.late.total.squared_gradient is None:
            continue
        # The rest of the spec, whatever it holds, is told apart by its hash.
        others = dataclasses.replace(spec, seed=0).trial_id
        setting = (spec.global_batch_size, spec.peak_lr, spec.schedule.label, spec.horizon, others)
        found.setdefault(setting, []).append((trial, run))
    return [_cell(members) for _, members in sorted(found.items())]


def nearest_cells(
    cells: Sequence[NoiseScaleCell], best_lrs: Mapping[int, float | None], schedule: str | None
) -> dict[int, NoiseScaleCell]:
    """Return one cell for each batch size: that of the peak LR nearest to the best one.

    Parameters
    ----------
    cells : sequence of NoiseScaleCell
        Candidates. At a batch size where some were run for this measurement the others are left out.
    best_lrs : mapping of int to float or None
        Best peak LR by batch size; where it is not known that of the lowest loss takes its place.
    schedule : str or None
        Schedule that goes first where several were used.
    """
    chosen = {}
    for size in sorted({cell.batch_size for cell in cells}):
        here = [cell for cell in cells if cell.batch_size == size]
        here = [cell for cell in here if cell.own] or here
        here = [cell for cell in here if cell.schedule == schedule] or here
        best = best_lrs.get(size) or min(here, key=_loss).lr
        chosen[size] = min(here, key=lambda cell: (abs(math.log(cell.lr / best)), -cell.horizon, -len(cell.trials)))
    return chosen


def _loss(cell: NoiseScaleCell) -> float:
    losses = [trial.record.final_loss for trial in cell.trials if trial.record.final_loss is not None]
    return sum(losses) / len(losses) if losses else math.inf


def _cell(members: Sequence[tuple[Trial, Measurement]]) -> NoiseScaleCell:
    # In an order of its own: sums must not depend on which trial ran first.
    members = sorted(members, key=lambda pair: pair[0].spec.seed)
    late, wholes = [run.late for _, run in members], [run.whole for _, run in members]
    spec = members[0][0].spec
    windows = max(len(run.course) for run in wholes)
    courses = [run.course for run in wholes if len(run.course) == windows]
    return NoiseScaleCell(
        batch_size=spec.global_batch_size,
        lr=spec.peak_lr,
        schedule=spec.schedule.label,
        horizon=spec.horizon,
        trials=tuple(trial for trial, _ in members),
        total=combine_noise_scales([run.total for run in late]),
        groups=_by_name([run.groups for run in late]),
        preconditioned=combine_noise_scales([run.preconditioned for run in late]),
        preconditioned_groups=_by_name([run.preconditioned_groups for run in late]),
        whole=combine_noise_scales([run.total for run in wholes]),
        course=tuple(combine_noise_scales([course[place] for course in courses]) for place in range(windows)),
    )


def _by_name(tables: Sequence[Mapping[str, NoiseScale]]) -> dict[str, NoiseScale]:
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: combine_noise_scales([table[name] for table in tables if name in table]) for name in names}
