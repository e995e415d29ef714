"""One batch size at several horizons: a trunk for each learning rate, and a cooldown at each horizon."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from lrscale.recipe import Horizons
from lrscale.store import BranchPoint, ScheduleSpec, TrialSpec
from lrscale.study.cells import TYPICAL_LRS, TYPICAL_REPLICATES, Cell
from lrscale.study.experiments.base import Context
from lrscale.study.specs import make_spec
from lrscale.units import Duration

TRUNK, COOLDOWN = "constant", "wsd"
EXTRA_TRUNKS = 1
"""Trunks that a walk trains for a shorter horizon alone."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trunks:
    """What is held fixed while LR and horizon vary."""

    batch_size: int
    horizons: tuple[int, ...]
    """Steps of each horizon, rising."""
    warmup: int
    """Steps of warm-up: one trunk has one, whatever the horizon."""
    settings: Horizons

    @classmethod
    def of(cls, context: Context, settings: Horizons, batch_size: int) -> Trunks:
        """Return the trunks that the recipe asks for."""
        horizons = tuple(
            length.steps(batch_size, dataset_size=context.training_examples) for length in settings.lengths
        )
        warmup = round(settings.warmup_fraction * horizons[0])
        return cls(batch_size=batch_size, horizons=horizons, warmup=warmup, settings=settings)

    @property
    def schedule(self) -> dict[str, float | str]:
        """Settings of the schedule that a horizon has: stable, then the cooldown."""
        own = self.settings
        return {
            "decay_fraction": own.cooldown_fraction,
            "decay": own.cooldown,
            **({"final_factor": own.final_factor} if own.final_factor else {}),
        }

    def branch_position(self, horizon: int) -> int:
        """Return the steps after which a cooldown leaves its trunk: up to there the factor is 1."""
        stable = (horizon - self.warmup) * (1 - self.settings.cooldown_fraction)
        return max(1, self.warmup + math.floor(stable * (1 + 1e-12)))

    @property
    def stops(self) -> tuple[int, ...]:
        """Steps at which a part of a trunk ends and cooldowns begin, rising."""
        return tuple(sorted({self.branch_position(horizon) for horizon in self.horizons}))

    def trunk(self, context: Context, lr: float, seed: int, horizon: int | None = None) -> list[TrialSpec]:
        """Return the specs of a trunk, part by part, up to where the cooldown of a horizon begins.

        Each part branches off from the end of the one before, so that a trunk is trained as far as anything asks for
        and can go on later.

        Parameters
        ----------
        context : Context
        lr : float
            Peak LR.
        seed : int
            Replicate.
        horizon : int, optional
            Steps. Default: the longest one.
        """
        end = self.branch_position(self.horizons[-1] if horizon is None else horizon)
        parts: list[TrialSpec] = []
        for stop in self.stops[: self.stops.index(end) + 1]:
            part = self._spec(context, lr, seed, TRUNK, {}, stop)
            if parts:
                before = BranchPoint(trial_id=parts[-1].trial_id, position=parts[-1].horizon)
                part = dataclasses.replace(part, branch=before)
            parts.append(part)
        return parts

    def alone(self, context: Context, lr: float, seed: int, horizon: int) -> TrialSpec:
        """Return the spec of the run of its own that a trunk with its cooldown takes the place of."""
        return self._spec(context, lr, seed, COOLDOWN, self.schedule, horizon)

    def cooldown(self, context: Context, lr: float, seed: int, horizon: int) -> TrialSpec:
        """Return the spec of a cooldown: a branch of the trunk of its LR and seed."""
        last = self.trunk(context, lr, seed, horizon)[-1]
        point = BranchPoint(trial_id=last.trial_id, position=last.horizon)
        return dataclasses.replace(self.alone(context, lr, seed, horizon), branch=point)

    def _spec(
        self, context: Context, lr: float, seed: int, schedule: str, settings: Mapping[str, float | str], steps: int
    ) -> TrialSpec:
        spec = make_spec(
            context.recipe,
            peak_lr=lr,
            batch_size=self.batch_size,
            horizon=Duration(steps, "steps"),
            schedule=schedule,
            settings=settings,
            seed=seed,
        )
        every = math.ceil(self.horizons[-1] / self.settings.validations)
        own = ScheduleSpec(name=schedule, settings=dict(settings), warmup_steps=self.warmup)
        return dataclasses.replace(spec, schedule=own, validate_every=every)

    def own_cell(self, horizon: int) -> Cell:
        """Return the cell of runs of their own at a horizon, each with the warm-up that such a run has."""
        own = self.settings
        return Cell(
            batch_size=self.batch_size,
            horizon=Duration(horizon, "steps"),
            schedule=COOLDOWN,
            settings=self.schedule,
            warmup_fraction=own.warmup_fraction,
            seeds=own.seeds,
            ratio=own.ratio,
            most=own.max_learning_rates,
            validations=own.validations,
        )

    @property
    def cost_ratio(self) -> float:
        """Examples of a trunk with all its cooldowns over those of runs of their own."""
        branches = [self.branch_position(horizon) for horizon in self.horizons]
        cooled = sum(horizon - branch for horizon, branch in zip(self.horizons, branches, strict=True))
        return (branches[-1] + cooled) / sum(self.horizons)

    def counted(self, context: Context, lr: float, counts: Mapping[int, int]) -> list[TrialSpec]:
        """Return specs of the right sizes: by horizon, how many trunks get to it and cool down there."""
        found: dict[str, TrialSpec] = {}
        for horizon, count in counts.items():
            for seed in range(count):
                for spec in (*self.trunk(context, lr, seed, horizon), self.cooldown(context, lr, seed, horizon)):
                    found[spec.trial_id] = spec
        return list(found.values())

    @property
    def typical(self) -> dict[int, int]:
        """Trunks that a walk usually comes to, by horizon."""
        own = self.settings
        if own.learning_rates is not None:
            return self.most
        count = min(TYPICAL_LRS, own.max_learning_rates) + math.ceil(TYPICAL_REPLICATES * (own.seeds - 1))
        # Best LRs move with the horizon, so that shorter ones are asked for at some that longer ones leave out.
        return {horizon: count + EXTRA_TRUNKS * (horizon != self.horizons[-1]) for horizon in self.horizons}

    @property
    def most(self) -> dict[int, int]:
        """Trunks that it could come to, by horizon."""
        own = self.settings
        lrs = own.max_learning_rates if own.learning_rates is None else len(own.learning_rates)
        return dict.fromkeys(self.horizons, lrs * own.seeds)
