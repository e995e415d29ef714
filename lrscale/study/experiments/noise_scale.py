"""Gradient noise scale: how many examples the noise of a gradient is worth, and how that moves along training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.lr_slice.lattice import lattice_index, lattice_lr
from lrscale.recipe import NoiseScale as NoiseScaleSettings
from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.experiments.scaling import start_lr
from lrscale.study.finding import Finding
from lrscale.study.noise_scale.answer import noise_scale_finding
from lrscale.study.noise_scale.cells import INSTRUMENT, NoiseScaleCell, nearest_cells, noise_scale_cells
from lrscale.study.range_test.ramps import range_test_batch
from lrscale.study.specs import make_spec, mean_factor
from lrscale.units import Duration

DEFAULT_HORIZON = Duration(400, "steps")
WARMUP_FRACTION = 0.05
MEASURED_STEPS = 120
"""Steps measured by a trial of its own where each needs a batch cut into parts."""
PRECONDITIONED_EVERY = 5
LATTICE_RATIO = 2.0
"""LRs of its own trials lie on the lattice of the sweep, so that a best LR that moves a little asks for no new ones."""


@final
class NoiseScale(AbstractExperiment):
    """Combines what trials have measured near the best LR, and trains where that gives no number.

    The result is a proxy for the critical batch size, for a first guess and for trends (McCandlish et al. 2018,
    arXiv:1812.06162); no recommendation is made of it.
    """

    key: ClassVar[str] = "noise_scale"
    title: ClassVar[str] = "Gradient noise scale"
    question: ClassVar[str] = "From which batch size on does a gradient hold more signal than noise?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"range_test", "scaling"})
    importance: ClassVar[int] = 60

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.noise_scale is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        settings = _settings(context)
        stated = settings.learning_rate is not None or settings.horizon is not None
        others = [cell for cell in noise_scale_cells(context.own_trials) if not cell.own]
        known = nearest_cells(others, _best_lrs(context), _schedule(context))
        wanted = []
        for size in _sizes(context):
            own = _own_specs(context, size, _swept_lrs(context))
            if stated or not _tells(known.get(size), own[0].horizon):
                wanted += own
        return wanted

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return [spec for size in _sizes(context) for spec in _own_specs(context, size, {})]

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.noise_scale
        return [{"seeds": 1}] if settings is not None and settings.seeds > 1 else []

    @override
    def analyse(self, context: Context) -> Finding:
        settings = _settings(context)
        wanted = {spec.trial_id for spec in self.plan(context)}
        # Trials of its own that an earlier recipe asked for stay in the folder; they answer another question.
        trials = [one for one in context.own_trials if INSTRUMENT not in one.spec.instruments or one.trial_id in wanted]
        cells = noise_scale_cells(trials)
        best = _best_lrs(context)
        if settings.learning_rate is not None:
            best = {**best, **dict.fromkeys(_sizes(context), settings.learning_rate)}
        chosen = nearest_cells(cells, best, _schedule(context))
        sizes = [size for size in _sizes(context) if size in chosen] or list(chosen)
        return noise_scale_finding(
            cells,
            chosen,
            headline=sizes[(len(sizes) - 1) // 2] if sizes else None,
            best_lrs=best,
            precision=settings.precision,
            trials=trials,
        )


def _settings(context: Context) -> NoiseScaleSettings:
    settings = context.recipe.experiments.noise_scale
    assert settings is not None
    return settings


def _sizes(context: Context) -> tuple[int, ...]:
    sizes = _settings(context).batch_sizes
    return tuple(sorted(sizes)) if sizes is not None else (range_test_batch(context.recipe),)


def _schedule(context: Context) -> str | None:
    scaling = context.recipe.experiments.scaling
    return None if scaling is None else scaling.schedule.label


def _tells(cell: NoiseScaleCell | None, horizon: int) -> bool:
    """Whether trials of other experiments give a number, or would give no more if all of their steps were measured.

    Trials of less than half of the horizon speak of the beginning of training alone.
    """
    if cell is None or 2 * cell.horizon < horizon:
        return False
    return cell.total.ok or 2 * cell.whole.steps >= cell.horizon * len(cell.trials)


def _best_lrs(context: Context) -> dict[int, float | None]:
    """Return the best peak LR of each batch size: of the sweep, else what the range test confirmed."""
    range_test = context.findings.get("range_test")
    family = () if range_test is None else range_test.data.get("family", ())
    confirmed = {
        int(member["batch_size"]): member["confirmation"]["lr"]
        for member in family
        if member["confirmation"] is not None
    }
    return {**confirmed, **_swept_lrs(context)}


def _swept_lrs(context: Context) -> dict[int, float | None]:
    """Return the best peak LR of each batch size of the sweep, as far as its trials are there."""
    finding = context.findings.get("scaling")
    if finding is None and context.recipe.experiments.scaling is not None:
        scaling = EXPERIMENTS["scaling"]
        finding = scaling.analyse(context) if context.finished(scaling.plan(context)) else None
    if finding is None:
        return {}
    return {int(cell["batch_size"]): cell["slice"]["best_lr"] for cell in finding.data["cells"]}


def _own_specs(context: Context, size: int, best_lrs: Mapping[int, float | None]) -> list[TrialSpec]:
    settings, recipe = _settings(context), context.recipe
    scaling = recipe.experiments.scaling
    horizon = settings.horizon or (scaling.horizon if scaling is not None else DEFAULT_HORIZON)
    lr = settings.learning_rate
    if lr is None:
        lr = lattice_lr(lattice_index(_lr_near(context, size, best_lrs), LATTICE_RATIO), LATTICE_RATIO)
    riding = recipe.instruments.noise_scale
    specs = []
    for seed in range(settings.seeds):
        spec = make_spec(
            recipe,
            peak_lr=lr,
            batch_size=size,
            horizon=horizon,
            schedule=settings.schedule.name,
            settings=settings.schedule.settings,
            seed=seed,
            warmup_fraction=WARMUP_FRACTION,
            warmup=settings.schedule.warmup,
            warmup_shape=settings.schedule.warmup_shape,
            training_examples=context.training_examples,
        )
        asked = {
            "budget": None,
            "preconditioned_every": PRECONDITIONED_EVERY,
            "split_every": max(1, spec.horizon // MEASURED_STEPS),
            "parts": 4 if riding is None else riding.parts,
        }
        specs.append(dataclasses.replace(spec, instruments={INSTRUMENT: asked}))
    return specs


def _lr_near(context: Context, size: int, best_lrs: Mapping[int, float | None]) -> float:
    known = {other: lr for other, lr in best_lrs.items() if lr is not None}
    if not known:
        own = _settings(context).schedule
        return start_lr(context, size, mean_factor(own.name, own.settings))
    nearest = min(known, key=lambda other: abs(math.log(other / size)))
    # The square-root rule moves the LR between batch sizes of one sweep; the finding names the LR that was used.
    return float(known[nearest] * (size / nearest) ** 0.5)


EXPERIMENTS.register(NoiseScale.key)(NoiseScale())
