"""Timed layouts: trials put together, the knees of their speeds, and what the model says beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrscale.laws.step_time import (
    SeriesMean,
    SpeedKnee,
    StepTimeFit,
    TimedLayout,
    fit_step_time,
    mean_of_replicates,
    speed_knee,
)
from lrscale.store import Trial
from lrscale.units import Layout

SCALE_OUT = (2, 4, 8)
"""Multiples of the largest number of ranks timed that are predicted, where the model can."""
CURVE_POINTS = 17


def layout_rows(trials: Sequence[Trial]) -> tuple[dict[str, Any], ...]:
    """Return a row for each layout, over the trials that repeat it."""
    groups: dict[Layout, list[Trial]] = {}
    for trial in trials:
        assert trial.spec.layout is not None
        groups.setdefault(trial.spec.layout, []).append(trial)
    return tuple(_row(layout, members) for layout, members in groups.items())


def _row(layout: Layout, trials: Sequence[Trial]) -> dict[str, Any]:
    mean = mean_of_replicates([_step_mean(trial) for trial in trials])
    ends = mean.interval()
    rate = layout.global_batch_size / mean.value
    timings = [trial.record.timing for trial in trials]
    return {
        "devices": layout.devices,
        "num_nodes": layout.num_nodes,
        "per_device_batch_size": layout.per_device_batch_size,
        "accumulate": layout.accumulate,
        "global_batch_size": layout.global_batch_size,
        "examples_per_second": rate,
        "lo": None if ends.hi is None else layout.global_batch_size / ends.hi,
        "hi": None if ends.lo is None else layout.global_batch_size / ends.lo,
        "step_mean": mean.value,
        "step_se": mean.se,
        "step_degrees": mean.degrees,
        "step_p50": _average(timing["step_p50"] for timing in timings),
        "step_p90": _average(timing["step_p90"] for timing in timings),
        "data_share": _share(trials, "data"),
        "sync_share": _share(trials, "sync"),
        "seconds_per_million_examples": 1e6 / rate,
        "repeats": len(trials),
        "trial_id": trials[0].trial_id,
    }


def _step_mean(trial: Trial) -> SeriesMean:
    timing = trial.record.timing
    # A record of before the errors were kept has its rate alone.
    mean = timing.get("step_mean") or trial.spec.global_batch_size / timing["examples_per_second"]
    return SeriesMean(value=mean, se=timing.get("step_se"), degrees=int(timing.get("step_degrees", 0)))


def _share(trials: Sequence[Trial], part: str) -> float | None:
    seen = [trial.record.measurements.get("step_time", {}).get(part) for trial in trials]
    shares = [one["share"] for one in seen if one is not None]
    return sum(shares) / len(shares) if shares else None


def _average(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _mean_of(row: Mapping[str, Any]) -> SeriesMean:
    return SeriesMean(value=row["step_mean"], se=row["step_se"], degrees=row["step_degrees"])


def speed_knees(rows: Sequence[Mapping[str, Any]], share: float) -> dict[int, SpeedKnee]:
    """Return the knee of each number of ranks at which several sizes were timed."""
    groups: dict[int, dict[int, SeriesMean]] = {}
    for row in rows:
        if row["accumulate"] == 1:
            groups.setdefault(row["devices"] * row["num_nodes"], {})[row["per_device_batch_size"]] = _mean_of(row)
    return {ranks: speed_knee(steps, share=share) for ranks, steps in groups.items() if len(steps) > 1}


def scale_out(rows: Sequence[Mapping[str, Any]], fit: StepTimeFit) -> tuple[Mapping[str, Any], ...]:
    """Return what more ranks would train at the largest per-device batch that was timed, where the model can tell."""
    ranks = max(row["devices"] * row["num_nodes"] for row in rows)
    size = max(row["per_device_batch_size"] for row in rows)
    found = []
    for times in SCALE_OUT:
        speed = fit.examples_per_second(size, ranks * times)
        if speed is not None:
            value, ends = speed
            found.append(
                {
                    "ranks": ranks * times,
                    "per_device_batch_size": size,
                    "global_batch_size": size * ranks * times,
                    "examples_per_second": value,
                    "lo": ends.lo,
                    "hi": ends.hi,
                }
            )
    return tuple(found)


def model_curves(rows: Sequence[Mapping[str, Any]], fit: StepTimeFit) -> list[dict[str, Any]]:
    """Return the model's speed over the timed range, for each number of ranks."""
    sizes = [row["per_device_batch_size"] for row in rows]
    lo, hi = min(sizes), max(sizes)
    found = []
    for ranks in sorted({row["devices"] * row["num_nodes"] for row in rows}):
        for step in range(CURVE_POINTS):
            size = lo * (hi / lo) ** (step / (CURVE_POINTS - 1))
            seconds = fit.seconds(size, ranks)
            if seconds is not None:
                value, ends = seconds
                examples = size * ranks
                found.append(
                    {
                        "ranks": ranks,
                        "size": size,
                        "value": examples / value,
                        "lo": None if ends.hi is None else examples / ends.hi,
                        "hi": None if ends.lo is None else examples / ends.lo,
                    }
                )
    return found


def fit_rows(rows: Sequence[Mapping[str, Any]]) -> StepTimeFit:
    """Return the model of the step's time, fitted to rows."""
    return fit_step_time(
        [
            TimedLayout(
                per_device_batch_size=row["per_device_batch_size"],
                ranks=row["devices"] * row["num_nodes"],
                accumulate=row["accumulate"],
                seconds=row["step_mean"],
            )
            for row in rows
        ]
    )
