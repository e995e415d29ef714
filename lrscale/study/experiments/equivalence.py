"""Equivalence: whether devices and accumulation change what a step computes, and why."""

from __future__ import annotations

from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, CheckStatus, Finding, Quantity
from lrscale.study.layout_check.diagnosis import Diagnosis, diagnose
from lrscale.study.layout_check.probe import Probe, layout_words, tolerance_of
from lrscale.study.layout_check.runs import STILL, Run, Runs, Stage, further
from lrscale.study.specs import make_spec
from lrscale.units import Duration, Layout

INSTRUMENT = "layout_probe"
SAFE_LR = 1e-4
"""Small, so that rounding does not grow from step to step; not so small that the parameters stand still."""
MOST_EXAMPLES = 32
"""Global batch where none is asked for: what differs shows in small batches, and best in the smallest."""
FEWEST_EXAMPLES = 2
"""Of a forward, where the batch allows: batch normalisation raises on one."""

SCALER_STEPS = 8
"""Further steps in half precision: the first ones may overflow until the AMP scaler has come down from 65536."""


@final
class Equivalence(AbstractExperiment):
    """Trains a few steps of one global batch in every way to form it, and compares gradients and losses."""

    key: ClassVar[str] = "equivalence"
    title: ClassVar[str] = "Layout check"
    question: ClassVar[str] = "Do devices and accumulation change what a step computes?"
    importance: ClassVar[int] = 30

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.equivalence is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        specs = [_spec(context, "plain", layout) for layout in check_layouts(context)]
        if any(context.ended(spec) is None for spec in specs):
            return specs
        while True:
            found = _finished(context, specs)
            more = [_spec(context, stage, layout) for stage, layout in further(Runs([run for run, _ in found]))]
            new = [spec for spec in more if spec not in specs]
            specs += new
            if not new or any(context.ended(spec) is None for spec in new):
                return specs

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def analyse(self, context: Context) -> Finding:
        found = _finished(context, self.plan(context))
        layouts = check_layouts(context)
        diagnosis = diagnose([run for run, _ in found])
        alone = all(layout.world_size == 1 for layout in layouts)
        sentence = diagnosis.sentence
        if alone and len(layouts) > 1:
            sentence += " On one device only accumulation was compared."
        elif context.facts.get("automatic_optimization") is False:
            sentence += " The module steps its optimizers itself, so that only devices were compared."
        rows = tuple(_row(diagnosis, run, trial) for run, trial in found if run.stage == "plain")
        return Finding(
            key=self.key,
            title=self.title,
            status="cannot_tell" if diagnosis.status == "cannot_compare" else "ok",
            sentence=sentence,
            numbers=_numbers(diagnosis),
            tables={"layouts": rows},
            checks=(
                Check(
                    name="layout does not change the answer",
                    status=check_status(diagnosis),
                    sentence=sentence,
                    remedy=diagnosis.remedy,
                ),
            ),
            data={
                "status": diagnosis.status,
                "causes": [
                    {"kind": cause.kind, "sentence": cause.sentence, "remedy": cause.remedy}
                    for cause in diagnosis.causes
                ],
                "rows": list(rows),
                "tolerance": _tolerance(found),
                "noise": diagnosis.noise,
            },
            trial_ids=tuple(trial.trial_id for _, trial in found),
        )


def check_status(diagnosis: Diagnosis) -> CheckStatus:
    """Return how a diagnosis counts among the checks of a report."""
    if diagnosis.status == "same":
        return "PASS"
    if diagnosis.fatal:
        return "FAIL"
    kinds = {cause.kind for cause in diagnosis.causes}
    return "INFO" if diagnosis.status == "cannot_compare" and kinds <= {"randomness"} else "WARNING"


def check_layouts(context: Context) -> list[Layout]:
    """Return the ways to form one global batch that are compared, the undivided one first where it fits.

    Two devices stand for any number of them, and two forwards for any accumulation.
    """
    recipe = context.recipe
    settings = recipe.experiments.equivalence
    assert settings is not None
    batch = settings.batch_size or _batch_size(context)
    bound = min(
        recipe.layout.max_per_device_batch_size or batch,
        recipe.layout.per_device_batch_size or batch,
    )
    nodes = 2 if recipe.layout.devices == 1 and recipe.layout.num_nodes > 1 else 1
    several = {"devices": 1 if nodes > 1 else 2, "num_nodes": nodes}
    layouts = [Layout(per_device_batch_size=batch)]
    manual = context.facts.get("automatic_optimization") is False
    has_ranks = recipe.layout.devices * recipe.layout.num_nodes > 1
    if batch % 2 == 0 and has_ranks:
        layouts.append(Layout(per_device_batch_size=batch // 2, **several))
    if batch % 2 == 0 and not manual:
        layouts.append(Layout(per_device_batch_size=batch // 2, accumulate=2))
    if batch % 4 == 0 and batch // 4 >= FEWEST_EXAMPLES and has_ranks and not manual:
        layouts.append(Layout(per_device_batch_size=batch // 4, accumulate=2, **several))
    return [layout for layout in layouts if layout.per_device_batch_size <= bound]


def _batch_size(context: Context) -> int:
    """Return a multiple of four that one device can hold at once, where that is possible."""
    recipe, examples = context.recipe, context.training_examples
    scaling = recipe.experiments.scaling
    most = min(
        MOST_EXAMPLES,
        MOST_EXAMPLES if scaling is None else min(scaling.batch_sizes),
        recipe.layout.max_per_device_batch_size or MOST_EXAMPLES,
        recipe.layout.per_device_batch_size or MOST_EXAMPLES,
        MOST_EXAMPLES if examples is None else max(2, examples),
    )
    if most >= 4:
        return most // 4 * 4 if most >= 4 * FEWEST_EXAMPLES else 4
    # Of a device that holds so few, two and accumulation are compared with each other.
    holds = min(recipe.layout.max_per_device_batch_size or 4, recipe.layout.per_device_batch_size or 4)
    return 2 * min(2, holds)


def _spec(context: Context, stage: Stage, layout: Layout) -> TrialSpec:
    settings = context.recipe.experiments.equivalence
    assert settings is not None
    precision = str((context.recipe.task.trainer or {}).get("precision", ""))
    probe: dict[str, Any] = {}
    if stage == "reseeded":
        probe["reseed"] = 1
    elif stage in STILL:
        probe["still"] = list(STILL[stage])
    return make_spec(
        context.recipe,
        peak_lr=SAFE_LR,
        batch_size=layout.global_batch_size,
        horizon=Duration(settings.steps + (SCALER_STEPS if precision.startswith("16") else 0), "steps"),
        schedule="constant",
        settings={},
        seed=0,
        layout=layout,
        stop_on_divergence=False,
        instruments={INSTRUMENT: probe},
    )


def _finished(context: Context, specs: list[TrialSpec]) -> list[tuple[Run, Trial]]:
    found = []
    for spec in specs:
        trial = context.view.get(spec)
        if trial is None or spec.layout is None:
            continue
        record = trial.record
        run = Run(
            layout=spec.layout,
            stage=_stage(spec),
            status=record.status,
            reason=record.reason,
            probe=Probe.of(spec.layout, record.measurements.get(INSTRUMENT, {})),
            source=record.facts.get("data_source"),
        )
        found.append((run, trial))
    return found


def _stage(spec: TrialSpec) -> Stage:
    probe = spec.instruments[INSTRUMENT]
    if probe.get("reseed"):
        return "reseeded"
    return next((stage for stage, parts in STILL.items() if list(parts) == list(probe.get("still", ()))), "plain")


def _tolerance(found: list[tuple[Run, Trial]]) -> float | None:
    return max((tolerance_of(run.probe.roundoff) for run, _ in found if run.probe is not None), default=None)


def _numbers(diagnosis: Diagnosis) -> dict[str, Quantity]:
    if not diagnosis.pairs:
        return {}
    gradient = max(pair.comparison.gradient_difference for pair in diagnosis.pairs.values())
    losses = [pair.comparison.loss_difference for pair in diagnosis.pairs.values()]
    loss = max((one for one in losses if one is not None), default=None)
    return {"gradient_difference": Quantity(value=gradient), "loss_difference": Quantity(value=loss)}


def _row(diagnosis: Diagnosis, run: Run, trial: Trial) -> dict[str, Any]:
    pair = diagnosis.pairs.get(run.layout)
    comparison = None if pair is None else pair.comparison
    worst = None if comparison is None else max(comparison.steps, key=lambda step: step.parameter_difference)
    return {
        "layout": layout_words(run.layout),
        "devices": run.layout.devices,
        "num_nodes": run.layout.num_nodes,
        "per_device_batch_size": run.layout.per_device_batch_size,
        "accumulate": run.layout.accumulate,
        "status": trial.record.status,
        "relation": None if comparison is None else comparison.relation,
        "gradient": None if comparison is None else comparison.gradient_difference,
        "loss": None if comparison is None else comparison.loss_difference,
        "scale": None if comparison is None else comparison.scale,
        "parameter": None if worst is None else worst.parameter,
        "parameter_difference": None if worst is None else worst.parameter_difference,
        "gradients": [] if comparison is None else [step.gradient for step in comparison.steps],
        "losses": [] if comparison is None else [step.loss for step in comparison.steps],
        "trial_id": trial.trial_id,
    }


EXPERIMENTS.register(Equivalence.key)(Equivalence())
