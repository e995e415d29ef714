"""Spikes are found where they were put, with their height and their recovery, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lrscale.errors import LrscaleError
from lrscale.laws.stability import Spikes, SpikeStatus, find_spikes

FloatArray = NDArray[np.float64]
NOISE = 0.02


def quiet_run(steps: int = 600, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return a loss that falls steeply and then slowly, and a gradient norm with noise of its own."""
    generator = np.random.default_rng(seed)
    at = np.arange(steps)
    loss = 1.0 + 3.0 * np.exp(-at / 25) + 0.5 * (1 + at) ** -0.3 + NOISE * generator.normal(size=steps)
    norm = (1 + 4 * np.exp(-at / 25)) * np.exp(0.15 * generator.normal(size=steps))
    return loss, norm


def with_spike(at: int, length: int, rise: float = 1.0, steps: int = 600) -> tuple[FloatArray, FloatArray]:
    loss, norm = quiet_run(steps)
    loss[at : at + length] += rise
    norm[at] += 10
    return loss, norm


def test_a_spike_is_found_with_its_step_height_and_recovery() -> None:
    found = find_spikes(*with_spike(400, 7))
    (spike,) = found.spikes
    assert (spike.step, spike.recovered_after, spike.recovered) == (401, 7, True)
    assert spike.rise == pytest.approx(1.0, abs=4 * NOISE)
    assert spike.height == pytest.approx(1.0 / NOISE, rel=0.35)
    assert spike.gradient_height is not None and spike.gradient_height > 20
    assert (found.window, found.recovery, found.lasting) == (120, 60, 0)


def test_the_window_of_a_long_run_is_the_published_one() -> None:
    found = find_spikes(*with_spike(1500, 3, steps=2000))
    assert (found.window, found.recovery) == (200, 100)
    assert [spike.step for spike in found.spikes] == [1501]


def test_the_steep_descent_at_the_start_is_no_spike() -> None:
    # Over 200 runs of every length: a rule with a window on both sides flags the first steps of each.
    for seed in range(200):
        assert not find_spikes(*quiet_run(steps=(60, 150, 600)[seed % 3], seed=seed)).spikes


def test_a_spike_that_stays_is_not_recovered_and_counted_once() -> None:
    found = find_spikes(*with_spike(300, 300))
    assert [(spike.step, spike.recovered, spike.recovered_after) for spike in found.spikes] == [(301, False, None)]
    assert found.lasting == 1


def test_a_spike_at_the_end_is_neither_recovered_nor_lasting() -> None:
    found = find_spikes(*with_spike(590, 10))
    assert [(spike.step, spike.recovered) for spike in found.spikes] == [(591, None)]
    assert found.lasting == 0


def test_a_high_loss_with_an_ordinary_gradient_is_a_hard_batch_and_no_spike() -> None:
    loss, norm = quiet_run()
    loss[400] += 1.0
    assert not find_spikes(loss, norm).spikes
    assert [spike.step for spike in find_spikes(loss).spikes] == [401]


def test_the_gradient_of_the_step_before_counts_since_its_update_is_what_shows() -> None:
    loss, norm = quiet_run()
    loss[400:403] += 1.0
    norm[399] += 10
    assert [spike.step for spike in find_spikes(loss, norm).spikes] == [401]


def test_a_high_gradient_alone_is_no_spike() -> None:
    loss, norm = quiet_run()
    norm[400] += 100
    assert not find_spikes(loss, norm).spikes


def test_gaps_and_infinite_gradients_are_taken() -> None:
    loss, norm = with_spike(400, 5)
    norm[400] = np.inf
    holes: list[float | None] = [None if step % 7 == 3 else float(value) for step, value in enumerate(loss)]
    found = find_spikes(holes, norm)
    assert [spike.step for spike in found.spikes] == [402 if 400 % 7 == 3 else 401]
    assert found.spikes[0].gradient_height is None
    assert found.steps == sum(value is not None for value in holes)
    assert find_spikes([*loss, np.nan, np.inf], [*norm, np.nan, np.nan]).steps == len(loss)


def test_too_few_steps_is_an_answer() -> None:
    for loss in ([], [1.0] * 39, [None] * 500):
        found = find_spikes(loss, [1.0] * len(loss))
        assert found.status is SpikeStatus.TOO_FEW_STEPS
        assert not found.spikes
    assert find_spikes([1.0] * 40).status is SpikeStatus.OK


def test_a_constant_loss_has_no_spikes_and_rounding_is_no_noise() -> None:
    loss = np.full(300, 3.0)
    loss[200] = np.nextafter(np.float32(3.0), np.float32(4.0))
    assert not find_spikes(loss).spikes
    loss[200] = 4.0
    assert [spike.step for spike in find_spikes(loss).spikes] == [201]


@given(st.floats(1e-3, 1e3), st.floats(-1e2, 1e2), st.floats(1e-3, 1e3), st.integers(30, 560))
def test_units_and_offset_of_the_loss_change_nothing_but_the_rise(
    unit: float, offset: float, norm_unit: float, at: int
) -> None:
    loss, norm = with_spike(at, 4, rise=2.0)
    one, other = find_spikes(loss, norm), find_spikes(unit * (loss + offset), norm_unit * norm)
    assert [spike.step for spike in one.spikes] == [spike.step for spike in other.spikes]
    for left, right in zip(one.spikes, other.spikes, strict=True):
        assert right.rise == pytest.approx(unit * left.rise, rel=1e-6)
        assert right.height == pytest.approx(left.height, rel=1e-6)
        assert right.recovered_after == left.recovered_after


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=120))
def test_any_losses_give_an_answer_that_is_read_back_equal(losses: list[float | None]) -> None:
    found = find_spikes(losses, losses)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Spikes.from_dict({**plain, "another": 1}) == found


def test_misuse_names_the_numbers() -> None:
    with pytest.raises(LrscaleError, match="3 losses have 2 gradient norms"):
        find_spikes([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(LrscaleError, match="window 10 is below 20"):
        find_spikes([1.0] * 100, window=10)
