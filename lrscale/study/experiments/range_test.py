"""Range test: ramp the LR, find the bracket in which a sweep is worth while."""

from __future__ import annotations

from typing import Any, ClassVar, final

import numpy as np
from typing_extensions import override

from lrscale.laws import RangeFinding, analyse_range_curves, smooth_log_lr
from lrscale.recipe import Recipe
from lrscale.store import TrialSpec
from lrscale.study.experiments.base import EXPERIMENTS, AbstractExperiment, Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.specs import make_spec
from lrscale.units import Duration

FALLBACK_BATCH = 32


@final
class RangeTest(AbstractExperiment):
    """Ramps the LR over several seeds and reads a bracket from the mean curves of all ranks.

    It brackets and does not decide: where the loss falls fastest depends on the length of the ramp.
    """

    key: ClassVar[str] = "range_test"
    title: ClassVar[str] = "LR range test"
    question: ClassVar[str] = "Between which learning rates does the loss fall, and where does training diverge?"

    @override
    def is_asked(self, recipe: Recipe) -> bool:
        return recipe.experiments.range_test is not None

    @override
    def plan(self, context: Context) -> list[TrialSpec]:
        settings = context.recipe.experiments.range_test
        assert settings is not None
        return [
            make_spec(
                context.recipe,
                peak_lr=settings.lr_max,
                batch_size=range_test_batch(context.recipe),
                horizon=Duration(settings.steps * settings.hold, "steps"),
                schedule="ramp",
                settings={"start_factor": settings.lr_min / settings.lr_max, "hold": settings.hold},
                seed=seed,
            )
            for seed in range(settings.seeds)
        ]

    @override
    def at_most(self, context: Context) -> list[TrialSpec]:
        return self.plan(context)

    @override
    def analyse(self, context: Context) -> Finding:
        trials = [trial for trial in context.finished(self.plan(context)) if trial.record.steps > 0]
        curves, used = [], []
        for trial in trials:
            trajectory = context.view.load_trajectory(trial.trial_id)
            steps = trajectory["step"]
            lr, loss = trajectory["lr"], trajectory["train_loss"]
            kept = np.isfinite(lr) & np.isfinite(steps)
            if kept.sum() < 2:
                continue
            curves.append((lr[kept], loss[kept]))
            used.append(trial)
        batch = range_test_batch(context.recipe)
        data: dict[str, Any] = {"batch_size": batch, "monitor": "train_loss", "curves": [], "bracket": None}
        if not curves:
            reason = next((trial.record.reason for trial in trials if trial.record.reason), "no ramp has run")
            return Finding(
                key=self.key,
                title=self.title,
                status="cannot_tell",
                sentence=f"The range test gave no curve: {reason}.",
                data={**data, "suggestions": {}, "initial_loss": None, "noise_sd": None},
            )
        ends = [
            float(lr[-1]) if trial.record.status == "diverged" else None
            for trial, (lr, _) in zip(used, curves, strict=True)
        ]
        found = analyse_range_curves(curves, diverged_at=ends)
        for trial, (lr, loss) in zip(used, curves, strict=True):
            finite = np.isfinite(loss)
            smoothed = np.full(len(lr), np.nan)
            if finite.sum() >= 2:
                smoothed[finite] = smooth_log_lr(lr[finite], loss[finite])
            data["curves"].append(
                {
                    "seed": trial.spec.seed,
                    "lr": lr.tolist(),
                    "loss": [value if np.isfinite(value) else None for value in loss.tolist()],
                    "smoothed": [value if np.isfinite(value) else None for value in smoothed.tolist()],
                    "diverged_at": float(lr[-1]) if trial.record.status == "diverged" else None,
                    "trial_id": trial.trial_id,
                }
            )
        return _finding(self, context, found, data, tuple(trial.trial_id for trial in used), batch)


def _finding(
    experiment: RangeTest,
    context: Context,
    found: RangeFinding,
    data: dict[str, Any],
    trial_ids: tuple[str, ...],
    batch: int,
) -> Finding:
    settings = context.recipe.experiments.range_test
    assert settings is not None
    lo, hi = found.bracket
    plain = found.to_dict()
    data["suggestions"] = {
        name: None if spread["value"] is None else {key: spread[key] for key in ("value", "lo", "hi")}
        for name, spread in plain["suggestions"].items()
    }
    data["initial_loss"] = _mean([reading.initial for reading in found.curves])
    data["noise_sd"] = _mean([reading.noise_sd for reading in found.curves])
    if lo is None:
        return Finding(
            key=experiment.key,
            title=experiment.title,
            status="cannot_tell",
            sentence=f"At batch {batch} the range test brackets no learning rate: {plain['reason']}",
            data=data,
            trial_ids=trial_ids,
        )
    diverged = hi is not None
    hi = settings.lr_max if hi is None else hi
    data["bracket"] = [lo, hi]
    checks = []
    end = f"training becomes unstable at {hi:.2g}" if diverged else f"no ramp diverged up to {hi:.2g}"
    if not diverged:
        checks.append(
            Check(
                name="ramp reaches divergence",
                status="INFO",
                sentence=f"No ramp diverged up to its end at {settings.lr_max:.2g}.",
                remedy="raise experiments.range_test.lr_max to find the edge of stability",
            )
        )
    return Finding(
        key=experiment.key,
        title=experiment.title,
        status="ok",
        sentence=(
            f"At batch {batch} the loss begins to fall at {lo:.2g} and {end} "
            f"({len(trial_ids)} seeds, {settings.steps} steps each). "
            "The bracket says where to sweep; the sweep decides."
        ),
        numbers={
            "begins_to_fall": Quantity(value=lo, lo=found.lo.lo, hi=found.lo.hi),
            "unstable_at": Quantity(value=hi, lo=found.hi.lo, hi=found.hi.hi) if diverged else Quantity(value=None),
        },
        checks=tuple(checks),
        data=data,
        trial_ids=trial_ids,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def range_test_batch(recipe: Recipe) -> int:
    """Return the global batch size of the range test: its own, or the middle one of the sweep."""
    settings = recipe.experiments.range_test
    if settings is not None and settings.batch_size is not None:
        return settings.batch_size
    scaling = recipe.experiments.scaling
    if scaling is not None:
        return middle(scaling.batch_sizes)
    world = recipe.layout.devices * recipe.layout.num_nodes
    return max(FALLBACK_BATCH, world)


def middle(sizes: tuple[int, ...]) -> int:
    """Return the middle one of some batch sizes, the smaller of two."""
    return sorted(sizes)[(len(sizes) - 1) // 2]


EXPERIMENTS.register(RangeTest.key)(RangeTest())
