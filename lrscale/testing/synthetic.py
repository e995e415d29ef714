"""Synthetic studies with known truth, written as real study folders.

Losses follow a stated surface: the best LR saturates with the batch size, the loss rises on both sides of it, trials
far above it diverge, and seeds shift every loss of theirs by the same amount. Everything that reads a study (fits,
recommendations, reports) can be tested against it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from lrscale.laws.stability import find_spikes
from lrscale.schedules import build_schedule
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialRecord, TrialSpec
from lrscale.store.record import Status
from lrscale.store.trajectory import LINES_NAME, PARQUET_NAME
from lrscale.units import Layout, split_global_batch

if TYPE_CHECKING:
    from lrscale.study.finding import Finding

FloatArray = npt.NDArray[np.float64]

SPIKE = np.array([0.4, 0.25, 0.1])
"""Loss above its course in the steps of a spike, as a share of the initial loss."""

ENVIRONMENT = {
    "lrscale": "0.1.0",
    "python": "3.11.0",
    "torch": "2.13.0",
    "host": "node-1",
    "device": "synthetic device",
    "ranks": 2,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The surface that losses are drawn from.

    The best LR at batch B is ``peak / (1 + knee / B) ** power``, the saturating form of McCandlish et al. 2018
    (arXiv:1812.06162). The loss at LR x times the best is ``floor + gain * examples ** -0.3 * (1 + ...)`` plus
    ``curvature * (x ** -0.5 + 0.5 * x - 1.5)``, which is lowest at x = 1.

    Examples
    --------
    >>> truth = Truth()
    >>> round(truth.best_lr(256), 4), truth.loss(256, truth.best_lr(256), 40_000) < truth.loss(256, 0.1, 40_000)
    (0.0107, True)
    """

    peak: float = 0.03
    """Best LR of an infinite batch."""
    knee: float = 256.0
    """Batch size of the knee, in examples."""
    power: float = 1.485
    """Slope of log best LR against log batch far below the knee."""
    floor: float = 0.2
    """Loss that no training gets below."""
    gain: float = 12.0
    """Loss above the floor after one example, for small batches."""
    curvature: float = 0.35
    """Cost of a wrong LR."""
    seed_sd: float = 0.02
    """Standard deviation of the shift that all trials of a seed share."""
    noise_sd: float = 0.006
    """Standard deviation of what is left to each trial."""
    diverges_at: float = 6.0
    """Multiple of the best LR from which trials diverge."""
    initial_loss: float = 2.3
    """Loss before training."""
    horizon_power: float = 0.0
    """Power of the examples over 40,960 that the best LR has besides."""
    schedule_cost: dict[str, float] = field(
        default_factory=lambda: {"constant": 0.06, "linear": 0.0, "cosine": 0.001, "wsd": 0.004, "inverse_sqrt": 0.03}
    )
    """Loss that a schedule adds."""
    optimizer_lr: dict[str, float] = field(default_factory=lambda: {"sgd": 30.0, "lion": 0.2})
    """Best LR of another optimizer over that of the task's own."""
    optimizer_cost: dict[str, float] = field(default_factory=lambda: {"sgd": 0.05, "lion": -0.05})
    """Loss that another optimizer adds."""
    companions_cost: dict[str, float] = field(default_factory=lambda: {"sde": 0.02, "half-life": -0.02})
    """Loss that a companions policy adds for each factor e between a batch size and the reference."""

    def best_lr(self, batch_size: float, examples: float = 40_960) -> float:
        """Return the LR of the lowest loss."""
        moved = (examples / 40_960) ** self.horizon_power
        return float(self.peak / (1 + self.knee / batch_size) ** self.power * moved)

    def loss(self, batch_size: float, lr: float, examples: float, schedule: str = "cosine") -> float:
        """Return the expected loss at the horizon."""
        x = lr / self.best_lr(batch_size, examples)
        reachable = self.floor + self.gain * examples**-0.3 * (1 + batch_size / 4096)
        return float(reachable + self.curvature * (x**-0.5 + 0.5 * x - 1.5) + self.schedule_cost.get(schedule, 0.0))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticStudy:
    """What a synthetic study holds.

    Examples
    --------
    >>> len(list(SyntheticStudy(batch_sizes=(64,), seeds=2, rates=5, schedules=(), throughput=False).specs()))
    13
    """

    name: str = "synthetic"
    truth: Truth = field(default_factory=Truth)
    batch_sizes: tuple[int, ...] = (16, 64, 256, 1024)
    seeds: int = 3
    rates: int = 6
    """LRs at each batch size, a factor `ratio` apart, from below the best one to where trials diverge."""
    ratio: float = 3.0
    shift: float = 1.0
    """Multiplies every LR of the slices; far from 1 the optimum leaves the grid."""
    horizon_examples: int = 40_960
    steps: int | None = None
    """Steps of every trial whatever its batch size; None: the horizon in examples."""
    schedules: tuple[str, ...] = ("constant", "linear", "cosine", "wsd")
    range_test_seeds: int = 3
    range_test_steps: int = 100
    throughput: bool = True
    validations: int = 10
    """Validations over the horizon; 0 leaves the training loss as the monitored one."""
    all_diverge: bool = False
    crashed: int = 1
    """Trials of the slices that crash."""
    task: dict[str, Any] = field(
        default_factory=lambda: {"model": {"class_path": "synthetic.Net", "init_args": {}}, "monitor": "val_loss"}
    )

    def horizon(self, batch_size: int) -> int:
        """Return the steps of a trial."""
        return self.steps if self.steps is not None else max(1, self.horizon_examples // batch_size)

    def slice_rates(self, batch_size: int) -> list[float]:
        """Return the LRs of a slice; the last ones diverge."""
        middle = self.truth.best_lr(batch_size) * self.shift
        return [float(f"{middle * self.ratio ** (k - (self.rates - 3)):.3g}") for k in range(self.rates)]

    def specs(self) -> Iterator[TrialSpec]:
        """Return the specs of all trials: ramps, slices, schedules, throughput."""
        reference = self.batch_sizes[len(self.batch_sizes) // 2]
        for seed in range(self.range_test_seeds):
            ramp = ScheduleSpec(name="ramp", settings={"start_factor": 1e-7})
            yield self._spec(reference, 10.0, ramp, seed, self.range_test_steps, validate=False)
        for batch_size in self.batch_sizes:
            for lr in self.slice_rates(batch_size):
                for seed in range(self.seeds):
                    yield self._spec(
                        batch_size, lr, self._schedule("cosine", batch_size), seed, self.horizon(batch_size)
                    )
        for name in self.schedules:
            for lr in self.slice_rates(reference):
                for seed in range(self.seeds):
                    if name != "cosine":
                        yield self._spec(reference, lr, self._schedule(name, reference), seed, self.horizon(reference))
        if self.throughput:
            for devices in (1, 2):
                for per_device in (16, 64):
                    layout = Layout(per_device_batch_size=per_device, devices=devices)
                    yield TrialSpec(
                        task=self.task,
                        schedule=ScheduleSpec(name="constant"),
                        peak_lr=1e-3,
                        global_batch_size=layout.global_batch_size,
                        horizon=30,
                        seed=0,
                        layout=layout,
                    )

    def _schedule(self, name: str, batch_size: int) -> ScheduleSpec:
        return ScheduleSpec(name=name, warmup_steps=self.horizon(batch_size) // 20)

    def _spec(
        self, batch_size: int, lr: float, schedule: ScheduleSpec, seed: int, steps: int, *, validate: bool = True
    ) -> TrialSpec:
        return TrialSpec(
            task=self.task,
            schedule=schedule,
            peak_lr=lr,
            global_batch_size=batch_size,
            horizon=steps,
            seed=seed,
            validate_every=max(1, steps // self.validations) if validate and self.validations else 0,
        )


def write_synthetic_study(path: Path, settings: SyntheticStudy | None = None, *, findings: bool = True) -> StudyFolder:
    """Write a study with all its trials, and findings.json unless told otherwise.

    Parameters
    ----------
    path : Path
        Folder of the study.
    settings : SyntheticStudy or None, optional
        Default None: the defaults.
    findings : bool, optional
        Whether to fit the laws and write findings.json. Default True.

    Returns
    -------
    StudyFolder
    """
    from lrscale.store.files import to_json, write_atomically

    settings = settings or SyntheticStudy()
    folder = StudyFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(settings)
    folder.write_plan({"name": settings.name, "created": "2026-01-01T00:00:00", "recipe": recipe, "decisions": []})
    write_atomically(path / "recipe.yaml", f"name: {settings.name}\n")
    slice_trials = 0
    for spec in settings.specs():
        is_slice = spec.layout is None and spec.schedule.name != "ramp"
        slice_trials += is_slice
        _write_trial(folder, settings, spec, crash=is_slice and slice_trials <= settings.crashed)
    if findings:
        from lrscale.testing.synthetic_findings import synthetic_findings

        made = synthetic_findings(StudyView.of(folder), settings)
        write_atomically(path / "findings.json", to_json({finding.key: finding.to_dict() for finding in made}))
    return folder


def read_findings(folder: StudyFolder) -> tuple[Finding, ...]:
    """Return the findings that `write_synthetic_study` wrote, or none."""
    from lrscale.store.files import read_json
    from lrscale.study.finding import Finding

    path = folder.path / "findings.json"
    return tuple(Finding.from_dict(plain) for plain in read_json(path).values()) if path.exists() else ()


def _recipe(settings: SyntheticStudy) -> dict[str, Any]:
    return {
        "name": settings.name,
        "seed": 0,
        "task": settings.task,
        "layout": {"devices": 2, "max_per_device_batch_size": 64},
        "experiments": {
            "range_test": {"seeds": settings.range_test_seeds, "steps": settings.range_test_steps},
            "scaling": {
                "batch_sizes": list(settings.batch_sizes),
                "horizon": f"{settings.horizon_examples} examples" if settings.steps is None else settings.steps,
                "seeds": settings.seeds,
            },
            "schedules": {"schedules": list(settings.schedules), "margin": 0.005},
            "throughput": {"steps": 30} if settings.throughput else None,
        },
        "target": {"tolerance": 0.001},
    }


def _write_trial(folder: StudyFolder, settings: SyntheticStudy, spec: TrialSpec, *, crash: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = spec.layout or split_global_batch(spec.global_batch_size, devices=2, max_per_device_batch_size=64)
    home = folder.begin_trial(spec)
    columns, status = _trajectory(settings, spec, layout)
    if crash:
        keep = max(1, len(columns["step"]) // 3)
        columns = {name: column[:keep] for name, column in columns.items()}
        status = "crashed"
    # Parquet at once: writing lines only to pack them again costs most of the time of a large study.
    (home / LINES_NAME).unlink(missing_ok=True)
    pq.write_table(pa.table(columns), home / PARQUET_NAME, compression="zstd")
    folder.finish_trial(_record(settings, spec, layout, columns, status))


def _random(spec: TrialSpec) -> np.random.Generator:
    # Up to where a stopper ends it, a trial is the one without.
    whole = spec if not spec.stopper else dataclasses.replace(spec, stopper={})
    return np.random.default_rng([spec.seed, int(whole.trial_id[:8], 16)])


def _seed_shift(settings: SyntheticStudy, seed: int) -> float:
    return float(settings.truth.seed_sd * np.random.default_rng([seed, 77]).standard_normal())


def _lr_scale(truth: Truth, spec: TrialSpec) -> float:
    return truth.optimizer_lr.get(str(spec.other_optimizer.get("name")), 1.0)


def _final_loss(settings: SyntheticStudy, spec: TrialSpec) -> float:
    truth = settings.truth
    lr = spec.peak_lr / _lr_scale(truth, spec)
    mean = truth.loss(spec.global_batch_size, lr, spec.examples, spec.schedule.name)
    mean += truth.optimizer_cost.get(str(spec.other_optimizer.get("name")), 0.0)
    if spec.companions:
        ratio = spec.global_batch_size / spec.companions["reference_batch_size"]
        mean += truth.companions_cost[spec.companions["policy"]] * abs(math.log(ratio))
    return mean + _seed_shift(settings, spec.seed) + truth.noise_sd * float(_random(spec).standard_normal())


def _trajectory(settings: SyntheticStudy, spec: TrialSpec, layout: Layout) -> tuple[dict[str, FloatArray], Status]:
    truth, steps = settings.truth, spec.horizon
    step = np.arange(1, steps + 1, dtype=np.float64)
    schedule = spec.lr_schedule or build_schedule("constant")
    grid = np.unique(np.linspace(0, steps - 1, min(steps, 400)).astype(int))
    factor = np.interp(step - 1, grid, [schedule.factor(int(position), steps) for position in grid])
    lr = spec.peak_lr * factor
    noise = 0.25 / math.sqrt(spec.global_batch_size) * _random(spec).standard_normal(steps)
    bound = truth.best_lr(spec.global_batch_size) * truth.diverges_at * _lr_scale(truth, spec)
    if spec.schedule.name == "ramp":
        # The loss follows the sum of the LRs so far, until the LR itself is too large.
        learned = 1 - np.exp(-np.cumsum(lr) / (6 * truth.best_lr(spec.global_batch_size)))
        loss = truth.initial_loss - 0.75 * (truth.initial_loss - truth.floor) * learned + noise
        over = np.maximum(0.0, np.log(lr / bound) + 1.0)
        loss = loss + 2.5 * (np.exp(over**2) - 1)
        diverged = lr > 3 * bound
    else:
        final = _final_loss(settings, spec)
        fall = (1 + step / max(2.0, 0.01 * steps)) ** -0.9
        fall = (fall - fall[-1]) / (1 - fall[-1])
        loss = final + (truth.initial_loss - final) * fall + noise
        spike = _spike_at(settings, spec)
        if spike is not None:
            loss[spike : spike + len(SPIKE)] += truth.initial_loss * SPIKE
        diverged = np.zeros(steps, dtype=bool)
        if spec.layout is None and (settings.all_diverge or spec.peak_lr > bound):
            start = max(1, steps // 5)
            loss[start:] = loss[start] * np.exp(np.minimum(60 * (step[start:] - step[start]) / steps, 40))
            diverged = step > 1.3 * start + 1
    if diverged.any():
        stop = max(2, int(diverged.argmax()))
        step, lr, loss = step[:stop], lr[:stop], loss[:stop]
    seconds = step * _step_seconds(layout)
    nan = np.full(len(step), np.nan)
    columns = {
        "step": step,
        "examples": step * spec.global_batch_size,
        "global_batch_size": np.full(len(step), float(spec.global_batch_size)),
        "seconds": seconds,
        "lr": lr,
        "train_loss": loss,
        "val_loss": nan,
    }
    if spec.validate_every and settings.validations:
        columns = _with_validations(columns, spec.validate_every, spec.horizon, settings, spec)
    return columns, "diverged" if diverged.any() else "completed"


def _spike_at(settings: SyntheticStudy, spec: TrialSpec) -> int | None:
    """Return the row of the spike of a trial at a fixed LR above twice the best one, or None where it has none."""
    hot = spec.peak_lr > 2 * settings.truth.best_lr(spec.global_batch_size)
    fixed = spec.schedule.name != "ramp" and spec.layout is None and not settings.all_diverge
    return int(0.6 * spec.horizon) if hot and fixed and spec.horizon > 10 * len(SPIKE) else None


def _stability(settings: SyntheticStudy, spec: TrialSpec, training: FloatArray) -> dict[str, Any]:
    norms = 1 + 0.1 * _random(spec).standard_normal(len(training))
    spike = _spike_at(settings, spec)
    if spike is not None:
        norms[spike : spike + 1] *= 10
    return find_spikes(training, norms).to_dict()


def _with_validations(
    columns: dict[str, FloatArray], every: int, horizon: int, settings: SyntheticStudy, spec: TrialSpec
) -> dict[str, FloatArray]:
    step = columns["step"]
    rows = np.flatnonzero((step % every == 0) | (step == horizon))
    smooth = np.convolve(np.pad(columns["train_loss"], 5, mode="edge"), np.ones(11) / 11, mode="valid")
    added = {name: np.concatenate((column, column[rows])) for name, column in columns.items()}
    size = len(step)
    added["train_loss"][size:] = np.nan
    added["lr"][size:] = np.nan
    added["val_loss"][size:] = smooth[rows]
    if len(rows) and step[rows[-1]] == horizon:
        added["val_loss"][-1] = _final_loss(settings, spec)
    order = np.argsort(added["step"], kind="stable")
    return {name: column[order] for name, column in added.items()}


def _step_seconds(layout: Layout) -> float:
    """Return seconds of a step: a fixed cost, a cost per example and forward, and an all-reduce."""
    return layout.accumulate * (2e-3 + 4e-5 * layout.per_device_batch_size) + 1e-3 * math.log2(layout.world_size + 1)


def _step_parts(layout: Layout) -> dict[str, Any]:
    """Return what the step-time instrument would have measured: the all-reduce, and a wait of a fixed length."""
    step = _step_seconds(layout)
    parts = {"data": 2e-4, "sync": 1e-3 * math.log2(layout.world_size + 1) if layout.world_size > 1 else 0.0}
    found = {
        name: {"seconds": seconds, "share": seconds / step, "se": 0.002, "degrees": 8}
        for name, seconds in parts.items()
    }
    return {"step_time": {"steps": 13, "seconds": step, "busy": 0.5, **found}}


def _record(
    settings: SyntheticStudy, spec: TrialSpec, layout: Layout, columns: dict[str, FloatArray], status: Status
) -> TrialRecord:
    validation = columns["val_loss"][np.isfinite(columns["val_loss"])]
    training = columns["train_loss"][np.isfinite(columns["train_loss"])]
    watched = validation if len(validation) else training
    final = float(validation[-1]) if len(validation) else float(training[-max(1, len(training) // 10) :].mean())
    seconds = float(columns["seconds"][-1])
    step = _step_seconds(layout)
    reasons = {
        "diverged": f"the loss left its starting level for good at step {columns['step'][-1]:.0f}",
        "crashed": "rank 1 raised RuntimeError: synthetic failure",
    }
    return TrialRecord(
        trial_id=spec.trial_id,
        status=status,
        reason=reasons.get(status),
        final_loss=final if status == "completed" else None,
        best_loss=float(watched.min()),
        initial_loss=settings.truth.initial_loss,
        monitor=str(settings.task.get("monitor", "val_loss")) if settings.validations else "train_loss",
        steps=int(columns["step"][-1]),
        examples=int(columns["examples"][-1]),
        layout=layout,
        timing={
            "total": seconds + 0.8,
            "training": seconds,
            "validation": 0.1 * seconds,
            "setup": 0.7,
            "step_p50": step,
            "step_p90": 1.2 * step,
            "step_mean": step,
            "step_se": 0.01 * step,
            "step_degrees": 8,
            "examples_per_second": layout.global_batch_size / step,
        },
        environment=ENVIRONMENT,
        facts={"optimizers": ["AdamW"], "parameters": 12_345, "reference_lr": 1e-3},
        measurements=_step_parts(layout)
        if spec.layout is not None
        else {"stability": _stability(settings, spec, training)},
        log_tail=("RuntimeError: synthetic failure",) if status == "crashed" else (),
    )
