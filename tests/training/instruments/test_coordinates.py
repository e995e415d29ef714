"""Sizes of the outputs of a module's parts in real trials, where they are known, and on two ranks."""

from __future__ import annotations

from typing import Any

import pytest
from lrscale_test_trials import Ran, Trials, make_spec, make_task

from lrscale.errors import LrscaleError
from lrscale.training.instruments import CoordinatesInstrument
from lrscale.units import Layout

MEASURED = {"coordinates": {"steps": 3}}
TASK = make_task("trial_modules.Parts")


def parts(ran: Ran) -> dict[str, dict[str, Any]]:
    assert ran.record.status == "completed", ran.record.reason
    return {part["name"]: part for part in ran.record.measurements["coordinates"]["parts"]}


def test_sizes_are_those_of_the_outputs_and_only_activations_have_one(trials: Trials) -> None:
    found = parts(trials.one(make_spec(TASK, horizon=5, lr=0.5, every=1), instruments=MEASURED))
    assert set(found) == {"twice", "pair", "shared"}
    assert found["twice"]["sizes"][0] == pytest.approx(2 * found["shared"]["sizes"][0], rel=1e-6)
    assert all(len(part["sizes"]) == 3 for part in found.values())
    assert found["twice"]["sizes"][1] != found["twice"]["sizes"][0]
    assert found["shared"]["type"] == "Shared" and found["shared"]["weight"] is None


def test_two_ranks_and_accumulation_have_the_sizes_of_one(trials: Trials) -> None:
    layouts = [
        Layout(per_device_batch_size=8),
        Layout(per_device_batch_size=4, devices=2),
        Layout(per_device_batch_size=2, accumulate=2, devices=2),
    ]
    spec = make_spec(TASK, horizon=4, lr=0.1)
    one, two, four = (parts(trials.one(spec, layout, instruments=MEASURED)) for layout in layouts)
    for name, part in one.items():
        assert two[name]["sizes"] == pytest.approx(part["sizes"], rel=1e-5)
        assert four[name]["sizes"] == pytest.approx(part["sizes"], rel=1e-5)


def test_training_is_the_same_to_the_last_bit_and_a_short_one_has_what_it_trained(trials: Trials) -> None:
    spec = make_spec(make_task("trial_modules.Dropping"), horizon=12, every=4)
    plain, watched = trials.one(spec), trials.one(spec, instruments={"coordinates": {"steps": 20}})
    assert plain.train_losses == watched.train_losses
    assert plain.record.final_loss == watched.record.final_loss
    assert watched.record.measurements["coordinates"]["steps"] == 12


def test_steps_below_one_are_refused() -> None:
    with pytest.raises(LrscaleError, match="coordinates: steps 0 is below 1"):
        CoordinatesInstrument(steps=0)
