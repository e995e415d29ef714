"""One batch size at several horizons: a trunk for each learning rate, and a cooldown at each horizon."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from lrscale.laws import LRSliceFit, fit_lr_slice
from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.laws.lr_slice.lr_search import LRSearch
from lrscale.recipe import Horizons
from lrscale.store import BranchPoint, ScheduleSpec, Trial, TrialSpec
from lrscale.study.branch_states import reaches
from lrscale.study.cells import TYPICAL_LRS, TYPICAL_REPLICATES, Cell
from lrscale.study.experiments.base import Context
from lrscale.study.specs import make_spec
from lrscale.units import Duration

TRUNK, COOLDOWN = "constant", "wsd"


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

    def trunk(self, context: Context, lr: float, seed: int) -> TrialSpec:
        """Return the spec of a trunk: it ends where its last cooldown begins."""
        return self._spec(context, lr, seed, TRUNK, {}, self.branch_position(self.horizons[-1]))

    def alone(self, context: Context, lr: float, seed: int, horizon: int) -> TrialSpec:
        """Return the spec of the run of its own that a trunk with its cooldown takes the place of."""
        return self._spec(context, lr, seed, COOLDOWN, self.schedule, horizon)

    def cooldown(self, context: Context, lr: float, seed: int, horizon: int) -> TrialSpec:
        """Return the spec of a cooldown: a branch of the trunk of its LR and seed."""
        trunk = self.trunk(context, lr, seed)
        point = BranchPoint(trial_id=trunk.trial_id, position=self.branch_position(horizon))
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

    def walk(self, context: Context, start_lr: float) -> Walk:
        """Return every trial wanted so far and what is known of it: until each horizon has its best LR inside."""
        own, walk = self.settings, Walk(self.horizons)
        if own.learning_rates is not None:
            for seed in range(own.seeds):
                for lr in own.learning_rates:
                    self._add(walk, context, lr, seed)
            return walk
        places: dict[tuple[float, int], float] = {}
        while True:
            new = [key for key in self._proposals(walk, places, start_lr) if key not in places]
            for index, seed in new:
                places[index, seed] = lattice_lr(index, own.ratio)
                self._add(walk, context, places[index, seed], seed)
            if not new or any((places[key], key[1]) not in walk.losses for key in new):
                return walk

    def _add(self, walk: Walk, context: Context, lr: float, seed: int) -> None:
        specs = list(self.of_trunk(context, lr, seed))
        walk.specs += specs
        ended = [context.ended(spec) for spec in specs]
        trunk = ended[0]
        if trunk is None or any(trial is None for trial in ended):
            walk.open = True
            return
        walk.trials += [trial for trial in ended if trial is not None]
        cooled = {trial.spec.horizon: trial for trial in ended[1:] if trial is not None}
        walk.losses[lr, seed] = {horizon: _loss(trunk, cooled.get(horizon)) for horizon in self.horizons}

    def of_trunk(self, context: Context, lr: float, seed: int) -> Iterator[TrialSpec]:
        """Yield a trunk and its cooldowns, but for those that it did not get to."""
        trunk = self.trunk(context, lr, seed)
        yield trunk
        ended = context.ended(trunk)
        for horizon in self.horizons:
            if ended is None or reaches(ended, self.branch_position(horizon)):
                yield self.cooldown(context, lr, seed, horizon)

    def counted(self, context: Context, lr: float, count: int) -> list[TrialSpec]:
        """Return the specs of so many trunks, of the right sizes."""
        return [spec for seed in range(count) for spec in self.of_trunk(context, lr, seed)]

    @property
    def typical(self) -> int:
        """Trunks that a walk usually comes to."""
        own = self.settings
        if own.learning_rates is not None:
            return len(own.learning_rates) * own.seeds
        # Horizons whose best LRs differ each want theirs inside.
        return min(TYPICAL_LRS + 1, own.max_learning_rates) + math.ceil((TYPICAL_REPLICATES + 1) * (own.seeds - 1))

    @property
    def most(self) -> int:
        """Trunks that it could come to."""
        own = self.settings
        if own.learning_rates is not None:
            return len(own.learning_rates) * own.seeds
        return own.max_learning_rates * own.seeds

    def _proposals(
        self, walk: Walk, places: Mapping[tuple[float, int], float], start_lr: float
    ) -> list[tuple[float, int]]:
        own = self.settings
        search = LRSearch.on_lattice(seeds=own.seeds, most=own.max_learning_rates, ratio=own.ratio)
        start = lattice_index(start_lr, own.ratio)
        found: dict[tuple[float, int], None] = {}
        for horizon in self.horizons:
            losses = {}
            for (index, seed), lr in places.items():
                loss = walk.losses[lr, seed][horizon]
                # A trunk that failed for a reason of its own counts as one that diverged: the walk needs a direction.
                losses[index, seed] = math.inf if loss is None else loss
            found.update(dict.fromkeys(search.next(losses, start)))
        room = own.max_learning_rates - len({index for index, _ in places})
        fresh = list(dict.fromkeys(index for index, _ in found if (index, 0) not in places))[: max(0, room)]
        return [key for key in found if key[0] in fresh or (key[0], 0) in places]


@final
class Walk:
    """Trunks that were asked for, and the losses of those that have ended.

    Parameters
    ----------
    horizons : tuple of int
        Steps of each horizon.
    """

    def __init__(self, horizons: tuple[int, ...]) -> None:
        self._horizons = horizons
        self.specs: list[TrialSpec] = []
        self.trials: list[Trial] = []
        """The finished ones, of trunks all of whose cooldowns have ended."""
        self.losses: dict[tuple[float, int], Mapping[int, float | None]] = {}
        """LR and replicate -> horizon -> loss: infinite where it diverged, None where nothing tells it."""
        self.open = False
        """Whether one is still to end."""

    def slices(self, *, tolerance: float) -> dict[int, LRSliceFit]:
        """Return the fitted LR slice of each horizon that has a loss."""
        found = {}
        for horizon in self._horizons:
            known = [(lr, seed, loss) for (lr, seed), loss in self._known(horizon)]
            if any(math.isfinite(loss) for _, _, loss in known):
                found[horizon] = fit_lr_slice(
                    [lr for lr, _, _ in known],
                    [loss if math.isfinite(loss) else math.nan for _, _, loss in known],
                    diverged=[not math.isfinite(loss) for _, _, loss in known],
                    seed=[seed for _, seed, _ in known],
                    tolerance=tolerance,
                )
        return found

    def losses_at(self, lr: float, horizon: int) -> dict[int, float]:
        """Return the finite losses of the tried LR that is nearest to one, by seed."""
        nearest = self.nearest(lr)
        return {seed: loss for (own, seed), loss in self._known(horizon) if own == nearest and math.isfinite(loss)}

    def nearest(self, lr: float) -> float | None:
        """Return the tried LR that is nearest to one; None while there is none."""
        return min({own for own, _ in self.losses}, key=lambda own: abs(math.log(own / lr)), default=None)

    def lowest(self, horizon: int) -> float | None:
        """Return the tried LR with the lowest loss at a horizon; None while there is none."""
        losses = [(loss, lr) for (lr, _), loss in self._known(horizon)]
        return min(losses)[1] if losses else None

    def _known(self, horizon: int) -> Iterator[tuple[tuple[float, int], float]]:
        # In an order of its own: an answer must not depend on who was asked for first.
        for key, losses in sorted(self.losses.items()):
            loss = losses[horizon]
            if loss is not None:
                yield key, loss


def _loss(trunk: Trial, cooled: Trial | None) -> float | None:
    last = trunk if cooled is None else cooled
    if cooled is not None and cooled.record.final_loss is not None:
        return cooled.record.final_loss
    return math.inf if last.record.status == "diverged" else None
