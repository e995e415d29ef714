from __future__ import annotations

import json

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.laws import FitStatus
from lrscale.laws.steps import Pareto, fit_steps_to_target, pareto_front

BATCH = 2.0 ** np.arange(5, 14)
FIT = fit_steps_to_target(BATCH, (500 + 5e5 / BATCH) * np.exp(0.03 * np.resize([1, -1, 0.5], BATCH.size)))


def test_time_examples_and_cost_are_products_of_the_steps():
    seconds = 0.05 + BATCH / 4000
    found = pareto_front(FIT, BATCH, seconds, devices=4)
    steps = FIT.predict(BATCH)[0]
    for i, point in enumerate(found.points):
        assert point.steps.value == pytest.approx(steps[i])
        assert point.seconds.value == pytest.approx(steps[i] * seconds[i])
        assert point.examples.value == pytest.approx(steps[i] * BATCH[i])
        assert point.cost.value == pytest.approx(4 * point.seconds.value)
        assert point.seconds.interval.contains(point.seconds.value)
    assert found.fastest == found.cheapest == BATCH[np.argmin(steps * seconds)]


def test_a_step_of_constant_time_puts_every_batch_size_on_the_front():
    found = pareto_front(FIT, BATCH, np.full(BATCH.size, 0.1))
    assert all(point.on_front and point.front_share == 1 for point in found.points)
    assert found.fastest == BATCH[-1]
    assert found.fastest_interval.hi is None
    # Time falls and data grow at equal rates where both are twice their least: at the critical batch size.
    critical = FIT.estimate("critical_batch").value
    assert abs(np.log2(found.knee / critical)) <= 1


def test_a_step_in_proportion_to_the_batch_leaves_the_smallest_batch_size():
    found = pareto_front(FIT, BATCH, BATCH / 1000)
    assert [point.batch_size for point in found.front] == [BATCH[0]]
    assert found.fastest == BATCH[0]
    assert found.knee is None


def test_no_point_of_the_front_is_beaten_and_every_other_one_is():
    rng = np.random.default_rng(0)
    seconds = 0.1 * np.exp(rng.normal(0, 1, BATCH.size))
    found = pareto_front(FIT, BATCH, seconds)
    values = [(point.seconds.value, point.examples.value) for point in found.points]
    for point, own in zip(found.points, values, strict=True):
        beaten = any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in values)
        assert point.on_front is not beaten


def test_devices_part_the_cheapest_from_the_fastest():
    devices = np.maximum(1, BATCH / 256)
    found = pareto_front(FIT, BATCH, 0.1 + 0.1 * BATCH / 256 / devices, devices=devices)
    assert found.cheapest < found.fastest


def test_step_times_are_interpolated_in_logarithms_and_averaged_but_not_extrapolated():
    found = pareto_front(FIT, [64, 1024, 1024], [0.1, 0.8, 0.2], candidates=[256])
    assert found.points[0].seconds_per_step == pytest.approx(0.2)
    with pytest.raises(LrscaleError, match="2048 lies outside of the timed ones, 64 to 1024"):
        pareto_front(FIT, [64, 1024], [0.1, 0.2], candidates=[2048])


@pytest.mark.parametrize(
    ("batch", "seconds", "devices", "words"),
    [
        ([64, 128], [0.1], 1, "shapes differ"),
        ([], [], 1, "shapes differ"),
        ([64, 128], [0.1, np.nan], 1, "row 1: seconds per step nan"),
        ([64, -128], [0.1, 0.1], 1, "row 1: batch size -128"),
        ([64, 128], [0.1, 0.1], [1, 0], "row 1: devices 0"),
    ],
)
def test_wrong_arguments_are_named(batch, seconds, devices, words):
    with pytest.raises(LrscaleError, match=words):
        pareto_front(FIT, batch, seconds, devices=devices)


def test_a_fit_without_a_law_gives_its_status():
    found = pareto_front(fit_steps_to_target([64, 128], [10, 5]), [64, 128], [0.1, 0.1])
    assert found.status is FitStatus.TOO_FEW_POINTS
    assert found.points == ()
    assert "2 of 2 runs" in found.summary()


def test_a_front_survives_json_and_prints_itself():
    found = pareto_front(FIT, BATCH, 0.05 + BATCH / 4000)
    assert Pareto.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.summary().count("*") == len(found.front)
