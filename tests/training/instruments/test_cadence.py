from __future__ import annotations

import pytest

from lrscale.training.instruments.cadence import MOST_EVERY, WARM_BATCHES, Cadence


def trained(cadence: Cadence, batches: int, seconds: float) -> None:
    for number in range(batches + WARM_BATCHES + 1):
        cadence.batch(number * seconds)


def test_measuring_is_as_sparse_as_the_budget_asks_and_no_sparser() -> None:
    cadence = Cadence(0.02)
    trained(cadence, 100, 0.010)
    for _ in range(8):
        cadence.spend(0.0005, steps=1)
    cadence.settle(cadence.totals, accumulate=1)
    # 0.5 ms in hooks, and half as much again in colder caches, are 7.5 % of 10 ms: every fourth step costs 1.9 %, every
    # third one 2.5 %.
    assert cadence.every == 4
    assert [step for step in range(10) if cadence.due(step)] == [0, 4, 8]
    cadence.settle(cadence.totals, accumulate=4)
    assert cadence.every == 1


def test_without_a_budget_every_step_is_measured_and_there_is_a_sparsest() -> None:
    for budget, every in ((None, 1), (1e-9, MOST_EVERY)):
        cadence = Cadence(budget)
        trained(cadence, 10, 0.010)
        cadence.spend(1.0, steps=1)
        cadence.settle(cadence.totals, accumulate=1)
        assert cadence.every == every


def test_the_first_batches_and_pauses_are_no_time_of_training() -> None:
    cadence = Cadence(0.02)
    trained(cadence, 5, 1.0)
    cadence.pause()
    cadence.batch(1000.0)
    cadence.batch(1001.0)
    assert (cadence.trained, cadence.batches) == (pytest.approx(6.0), 6)


def test_a_measurement_beside_training_waits_until_it_is_paid_for() -> None:
    cadence = Cadence(0.02)
    assert not cadence.affords(4)
    trained(cadence, 199, 0.010)
    assert not cadence.affords(4)
    cadence.batch((199 + WARM_BATCHES + 1) * 0.010)
    # Four batches of 10 ms are 2 % of 200.
    assert cadence.affords(4 * 0.999)
    cadence.spend(0.030, steps=1)
    assert cadence.refusal is not None and "within 2 % of the time" in cadence.refusal
    assert not cadence.affords(4)
    assert Cadence(None).affords(4)
    assert Cadence(None).refusal is None


def test_what_every_batch_costs_and_the_exchanges_leave_less_for_measuring() -> None:
    cadence = Cadence(0.02, exchange_every=100)
    trained(cadence, 100, 0.010)
    for _ in range(8):
        cadence.spend(0.0005, steps=1)
    cadence.exchanged(0.008, whole=False)
    cadence.exchanged(0.002, whole=True)
    for _ in range(100):
        cadence.stand(0.00002)
    cadence.settle(cadence.totals, accumulate=1)
    # 1.5 times 0.5 ms and a hundredth of 10 ms for each measured step; 0.2 ms less 1.5 times 0.02 ms are left for it.
    assert cadence.every == 6
    for _ in range(100):
        cadence.stand(0.0002)
    cadence.settle(cadence.totals, accumulate=1)
    assert cadence.every == MOST_EVERY


def test_what_measuring_costs_in_the_first_batches_says_nothing_of_the_others() -> None:
    cadence = Cadence(0.02)
    cadence.spend(1.0, steps=1)
    cadence.stand(1.0)
    trained(cadence, 10, 0.010)
    cadence.spend(0.0001, steps=1)
    assert cadence.totals == pytest.approx((0.1, 10, 0.0001, 1, 0, 0, 0))
