"""The noise scale rides on trials: it is measured, and no bit of the trial is another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lrscale_test_trials import Ran, Trials, make_spec, make_task

from lrscale.laws.noise_scale.result import RunNoiseScale
from lrscale.store import TrialSpec
from lrscale.units import Layout

HORIZON, BATCH = 32, 16
DENSE = {"noise_scale": {"budget": None, "split_every": 2, "parts": 4, "preconditioned_every": 3}}
LAYOUTS = {
    "1 rank": Layout(per_device_batch_size=16),
    "accumulate 4": Layout(per_device_batch_size=4, accumulate=4),
    "2 ranks": Layout(per_device_batch_size=8, devices=2),
    "2 ranks, accumulate 2": Layout(per_device_batch_size=4, accumulate=2, devices=2),
}


def spec(seed: int = 0, **trainer: Any) -> TrialSpec:
    task = make_task("trial_modules.Restless", trainer={"gradient_clip_val": 0.5, **trainer})
    return make_spec(task, batch=BATCH, horizon=HORIZON, schedule="cosine", warmup=4, every=8, seed=seed)


def same(one: Ran, other: Ran) -> bool:
    columns = set(one.trajectory.columns) - {"seconds"}
    alike = all(np.array_equal(one.trajectory[name], other.trajectory[name], equal_nan=True) for name in columns)
    return alike and len(one.trajectory) == len(other.trajectory) and one.record.final_loss == other.record.final_loss


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_trial_with_the_instrument_is_the_trial_without_it_to_the_last_bit(trials: Trials, precision: str) -> None:
    # The layouts share the spec but for the seed, which keeps their folders apart.
    wanted = [(spec(seed, precision=precision), layout) for seed, layout in enumerate(LAYOUTS.values())]
    plain = trials.run(*wanted)
    measured = trials.run(*wanted, instruments=DENSE)
    for name, without, with_it in zip(LAYOUTS, plain, measured, strict=True):
        assert with_it.record.status == "completed", with_it.record.reason
        assert same(without, with_it), name
        assert without.record.measurements == {}
        found = RunNoiseScale.from_dict(with_it.record.measurements["noise_scale"]["whole"])
        assert found.total.steps == HORIZON // (2 if name == "1 rank" else 1)
        assert found.total.global_batch_size == BATCH
        assert list(found.groups) == ["first", "rest"]
        assert found.preconditioned.steps >= 5
        late = RunNoiseScale.from_dict(with_it.record.measurements["noise_scale"]["late"])
        assert (late.total.first_step, late.total.steps) == (HORIZON // 2, found.total.steps // 2)
        assert (len(found.course), len(late.course)) == (1 if name == "1 rank" else 3, 0)
        assert with_it.record.warnings == without.record.warnings


def test_what_rides_on_a_trial_is_no_part_of_its_identity_and_stays_within_its_budget(trials: Trials) -> None:
    (ran,) = trials.run((spec(), LAYOUTS["2 ranks"]), instruments={"noise_scale": {"budget": 1e-6}})
    assert ran.record.trial_id == spec().trial_id
    found = RunNoiseScale.from_dict(ran.record.measurements["noise_scale"]["whole"])
    # Eight steps show what measuring costs, more than a millionth of the time; on the ninth the ranks agree on it.
    assert found.total.steps == 9
    assert found.total.status.value == "too_few_steps"


def test_a_trial_that_diverges_keeps_what_all_ranks_had_measured(trials: Trials) -> None:
    wild = make_spec(make_task(init={"lr": 1.0}), lr=30.0, batch=BATCH, horizon=64)
    (ran,) = trials.run((wild, LAYOUTS["2 ranks"]), instruments={"noise_scale": {"budget": None}})
    assert ran.record.status == "diverged"
    assert ran.record.measurements["noise_scale"]["whole"]["total"]["steps"] >= 4
