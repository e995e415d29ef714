"""Throughput: examples a second for each way to spread a batch, where a step's time goes, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.laws.step_time import SpeedKnee, StepTimeFit
from lrscale.recipe import Recipe
from lrscale.store import Trial, TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.layouts.choice import fastest_layout
from lrscale.study.layouts.memory_search import largest_that_fits
from lrscale.study.layouts.timed import fit_rows, layout_rows, model_curves, scale_out, speed_knees
from lrscale.study.range_test.ramps import range_test_batch
from lrscale.study.specs import SAFE_LR, make_spec
from lrscale.study.words import interval_text, number
from lrscale.units import Duration, Layout

FEWEST_LAYOUTS_BATCH = 4
LEAST_EXAMPLES_SHARE = 0.5
"""A per-device batch is tried only up to this share of the training examples of one rank."""
BUSY = 1.5
"""Processes for each core, the trial's own among them, from which on times on CPU are not the machine's."""
NOTEWORTHY_SHARE = 0.2
"""Share of a step spent waiting from which on it is worth a warning."""


@final
class Throughput(AbstractExperiment):
    """Times short trials for each number of devices and per-device batch size."""

    key: ClassVar[str] = "throughput"
    title: ClassVar[str] = "Throughput"
    question: ClassVar[str] = "How many examples a second does each layout train?"
    starts_from: ClassVar[frozenset[str]] = frozenset({"memory"})
    importance: ClassVar[int] = 50

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
                seed=repeat,
                layout=layout,
                stop_on_divergence=False,
            )
            for repeat in range(settings.repeats)
            for layout in throughput_layouts(context)
        ]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def reductions(self, recipe: Recipe) -> Sequence[Mapping[str, Any]]:
        settings = recipe.experiments.throughput
        assert settings is not None
        found: list[dict[str, Any]] = [{"repeats": 1}] if settings.repeats > 1 else []
        if recipe.layout.devices > 1 and settings.devices is None:
            found.append({"repeats": 1, "devices": [recipe.layout.devices]})
        return found

    @override
    def analyse(self, context: Context) -> Finding:
        planned = self.plan(context)
        trials = [
            trial
            for trial in context.finished(planned)
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
        settings = context.recipe.experiments.throughput
        share = 0.9 if settings is None else settings.knee
        rows = layout_rows(trials)
        best = max(rows, key=lambda row: row["examples_per_second"])
        knees = speed_knees(rows, share)
        knee = knees.get(best["devices"] * best["num_nodes"])
        fit = fit_rows(rows)
        numbers = {
            "examples_per_second": Quantity(
                value=best["examples_per_second"], lo=best["lo"], hi=best["hi"], unit="examples/s"
            )
        }
        if knee is not None:
            numbers["knee"] = Quantity(value=knee.size, lo=knee.lo, hi=knee.hi, unit="examples per device")
        return Finding(
            key=self.key,
            title=self.title,
            status="ok",
            sentence=_sentence(rows, best, knee, len(trials)),
            numbers=numbers,
            tables={
                "layouts": rows,
                "targets": _targets(context, rows, fit),
                "scale_out": scale_out(rows, fit),
            },
            checks=tuple(_checks(rows, trials, len(planned))),
            data={
                "rows": list(rows),
                "knees": [{"ranks": ranks, **knee.to_dict()} for ranks, knee in sorted(knees.items())],
                "law": fit.to_dict(),
                "curves": model_curves(rows, fit),
            },
            trial_ids=tuple(trial.trial_id for trial in trials),
        )


def throughput_layouts(context: Context) -> list[Layout]:
    """Return the layouts to time: device counts in powers of two, per-device batches in factors of four.

    What fits is the user's bound, or what the memory probes found.
    """
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
        fits = largest_that_fits(context.findings)
        known = [bound for bound in (recipe.layout.max_per_device_batch_size, fits) if bound]
        bound = min(known, default=None) or max(
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


def _sentence(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], knee: SpeedKnee | None, trials: int) -> str:
    single = max((row for row in rows if row["devices"] == 1), key=lambda row: row["examples_per_second"], default=None)
    told = f"The fastest of {len(rows)} layouts trains {number(best['examples_per_second'], 3)} examples a second"
    if best["lo"] is not None:
        told += f" ({interval_text(best['lo'], best['hi'])})"
    told += (
        f": {best['devices']} device{'s' if best['devices'] > 1 else ''} x {best['per_device_batch_size']} per device"
    )
    if single is not None and best["devices"] > 1:
        gain = best["examples_per_second"] / single["examples_per_second"]
        told += f", {number(gain)} times the best of one device"
    if knee is not None:
        reach = f"{100 * knee.share:.0f} % of it"
        told += (
            f"; no smaller per-device batch reaches {reach}, so that a larger one may train faster still"
            if knee.at_edge
            else f"; {knee.size} per device reach {reach}"
        )
    return f"{told} (step times of {trials} short trials, first steps left out)."


def _targets(context: Context, rows: Sequence[Mapping[str, Any]], fit: StepTimeFit) -> tuple[Mapping[str, Any], ...]:
    """Return the fastest layout of each global batch that the recipe names."""
    recipe = context.recipe
    scaling, target = recipe.experiments.scaling, recipe.target
    sizes = set(scaling.batch_sizes) if scaling is not None else set()
    if target is not None and target.batch_size is not None:
        sizes.add(target.batch_size)
    known = [bound for bound in (recipe.layout.max_per_device_batch_size, largest_that_fits(context.findings)) if bound]
    choices = [
        fastest_layout(size, rows, max_per_device_batch_size=min(known, default=None), fit=fit)
        for size in sorted(sizes)
    ]
    return tuple(choice.to_dict() for choice in choices if choice is not None)


def _checks(rows: Sequence[Mapping[str, Any]], trials: Sequence[Trial], planned: int) -> list[Check]:
    complete = len(trials) == planned
    checks = [
        Check(
            name="layouts timed",
            status="PASS" if complete else "WARNING",
            sentence=f"{len(trials)} of {planned} trials that time a layout completed.",
            remedy=None if complete else "see the logs of the failed trials",
        )
    ]
    busy = [trial.record.measurements.get("step_time", {}).get("busy", 0.0) for trial in trials]
    on_cpu = any(trial.record.environment.get("accelerator") == "cpu" for trial in trials)
    if on_cpu and max(busy) > BUSY:
        checks.append(
            Check(
                name="idle machine",
                status="WARNING",
                sentence=f"Up to {max(busy):.1f} processes wanted each core while layouts were timed, so that the "
                "times are too long and vary.",
                remedy="time the layouts again on an idle machine, in a new study folder",
            )
        )
    for name, key, remedy in (
        ("data loading", "data_share", "more workers of the data loader, or cheaper transforms"),
        ("synchronisation", "sync_share", "a larger per-device batch, accumulation, or a faster interconnect"),
    ):
        known = [row for row in rows if row[key] is not None]
        if not known:
            continue
        worst = max(known, key=lambda row: row[key])
        where = f"{worst['devices']} devices x {worst['per_device_batch_size']} per device"
        high = worst[key] > NOTEWORTHY_SHARE
        checks.append(
            Check(
                name=name,
                status="WARNING" if high else "PASS",
                sentence=f"At most {100 * worst[key]:.0f} % of a step "
                f"{'waits for data' if key == 'data_share' else 'waits for the other ranks'} ({where}).",
                remedy=remedy if high else None,
            )
        )
    return checks


EXPERIMENTS.register(Throughput.key)(Throughput())
