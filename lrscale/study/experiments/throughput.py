"""Throughput: examples a second for each way to spread a batch."""

from __future__ import annotations

from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.ramps import range_test_batch
from lrscale.study.specs import make_spec
from lrscale.study.words import number
from lrscale.units import Duration, Layout

SAFE_LR = 1e-6
"""Small enough that no trial diverges; the time of a step does not depend on it."""
FEWEST_LAYOUTS_BATCH = 4
LEAST_EXAMPLES_SHARE = 0.5
"""A per-device batch is tried only up to this share of the training examples of one rank."""


@final
class Throughput(AbstractExperiment):
    """Times short trials for each number of devices and per-device batch size."""

    key: ClassVar[str] = "throughput"
    title: ClassVar[str] = "Throughput"
    question: ClassVar[str] = "How many examples a second does each layout train?"

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.throughput is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        settings = context.recipe.experiments.throughput
        assert settings is not None
        return [
            make_spec(
                context.recipe,
                peak_lr=SAFE_LR,
                batch_size=layout.global_batch_size,
                horizon=Duration(settings.steps, "steps"),
                schedule="constant",
                settings={},
                seed=0,
                layout=layout,
                stop_on_divergence=False,
            )
            for layout in throughput_layouts(context)
        ]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def analyse(self, context: Context) -> Finding:
        trials = [
            trial
            for trial in context.finished(self.plan(context))
            if trial.record.status == "completed" and trial.record.timing.get("examples_per_second")
        ]
        if not trials:
            return Finding(
                key=self.key,
                title=self.title,
                status="cannot_tell",
                sentence="No layout was timed: its trials did not complete.",
                data={"rows": []},
            )
        rows = [_row(trial) for trial in trials]
        best = max(rows, key=lambda row: row["examples_per_second"])
        single = max(
            (row for row in rows if row["devices"] == 1), key=lambda row: row["examples_per_second"], default=None
        )
        sentence = (
            f"The fastest of {len(rows)} layouts trains {number(best['examples_per_second'], 3)} examples a second: "
            f"{best['devices']} devices x {best['per_device_batch_size']} per device"
        )
        if single is not None and best["devices"] > 1:
            gain = best["examples_per_second"] / single["examples_per_second"]
            sentence += f", {number(gain)} times the best of one device"
        return Finding(
            key=self.key,
            title=self.title,
            status="ok",
            sentence=sentence + f" (step times of {len(trials)} short trials, first steps left out).",
            numbers={"examples_per_second": Quantity(value=best["examples_per_second"], unit="examples/s")},
            tables={"layouts": tuple(rows)},
            checks=(
                Check(
                    name="layouts timed",
                    status="PASS" if len(trials) == len(self.plan(context)) else "WARNING",
                    sentence=f"{len(trials)} of {len(self.plan(context))} layouts were timed.",
                    remedy=None if len(trials) == len(self.plan(context)) else "see the logs of the failed trials",
                ),
            ),
            data={"rows": rows},
            trial_ids=tuple(trial.trial_id for trial in trials),
        )


def throughput_layouts(context: Context) -> list[Layout]:
    """Return the layouts to time: device counts in powers of two, per-device batches in factors of four."""
    recipe = context.recipe
    settings = recipe.experiments.throughput
    assert settings is not None
    most = recipe.layout.devices
    devices = settings.devices or tuple(
        sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    )
    scaling = recipe.experiments.scaling
    sizes = settings.per_device_batch_sizes
    if sizes is None:
        bound = recipe.layout.max_per_device_batch_size or max(
            1, (max(scaling.batch_sizes) if scaling is not None else range_test_batch(recipe)) // most
        )
        smallest = min(bound, FEWEST_LAYOUTS_BATCH)
        sizes = tuple(
            sorted({bound, *(size for size in (smallest * 4**power for power in range(12)) if size <= bound)})
        )
    layouts = [Layout(per_device_batch_size=size, devices=count) for count in devices for size in sizes]
    examples = context.training_examples
    if examples is None:
        return layouts
    fitting = [layout for layout in layouts if layout.global_batch_size <= LEAST_EXAMPLES_SHARE * examples]
    return fitting or layouts[:1]


def _row(trial: Trial) -> dict[str, Any]:
    layout, timing = trial.spec.layout, trial.record.timing
    assert layout is not None
    rate = timing["examples_per_second"]
    return {
        "devices": layout.devices,
        "num_nodes": layout.num_nodes,
        "per_device_batch_size": layout.per_device_batch_size,
        "accumulate": layout.accumulate,
        "global_batch_size": layout.global_batch_size,
        "examples_per_second": rate,
        "step_p50": timing["step_p50"],
        "step_p90": timing["step_p90"],
        "seconds_per_million_examples": 1e6 / rate,
        "trial_id": trial.trial_id,
    }


EXPERIMENTS.register(Throughput.key)(Throughput())
