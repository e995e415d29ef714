"""What a trial that was ended early is estimated to have come to, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrscale.stoppers.unfinished import FEWEST, Curve, estimate

COUNT = 10


def crossing(lr: float, batch: int, *, until: int = COUNT, noise: float = 0.0, seed: int = 0) -> Curve:
    """Return a trial whose loss before the decay has a part that rises with its LR, and is gone at the end.

    The best LR at the end is 1e-2; half-way one of 3e-3 is ahead of it.
    """
    rng = np.random.default_rng([seed, round(1e6 * lr), batch])
    away = math.log(lr / 1e-2)
    final = 1.0 + 0.08 * away**2 + 0.01 * math.log(batch / 64) ** 2
    losses = {}
    for place in range(1, COUNT + 1):
        left = (1 + math.cos(math.pi * place / COUNT)) / 2
        slow, hot = 0.4 * (1 - place / COUNT), 0.6 * (lr / 1e-2) ** 0.5 * (64 / batch) ** 0.25 * left
        losses[place] = final + slow + hot + noise * rng.standard_normal()
    whole = losses[COUNT]
    return Curve(
        lr=lr,
        batch_size=batch,
        losses={place: loss for place, loss in losses.items() if place <= until},
        final=whole if until == COUNT else None,
    )


LRS = tuple(1e-3 * 2.0 ** (step / 2) for step in range(14))
SIZES = (16, 64, 256)


def test_curves_that_cross_are_told_apart_where_losses_half_way_mislead() -> None:
    low, high = crossing(3e-3, 64, until=5), crossing(1e-2, 64, until=5)
    assert low.losses[5] < high.losses[5]
    whole = [crossing(lr, 64) for lr in (1e-3, 2e-3, 4e-3, 7e-3, 1.4e-2, 2e-2)]
    first, second = estimate(low, whole), estimate(high, whole)
    assert first is not None
    assert second is not None
    assert first.loss > second.loss
    truth = crossing(1e-2, 64).final
    assert truth is not None
    # Had all fallen alike, it would be off by a multiple of this.
    alike = high.losses[5] - np.mean([one.losses[5] - (one.final or 0.0) for one in whole])
    assert abs(second.loss - truth) < abs(alike - truth) / 2


@pytest.mark.parametrize("until", [3, 5, 8])
@pytest.mark.parametrize("count", [3, 5, 9])
def test_two_standard_deviations_hold_nine_of_ten_losses_at_the_horizon(until: int, count: int) -> None:
    rng = np.random.default_rng(7)
    every = [(lr, size) for lr in LRS for size in SIZES]
    scores = []
    for seed in range(120):
        chosen = rng.permutation(len(every))[: count + 1]
        curves = [crossing(*every[place], noise=0.01, seed=seed) for place in chosen]
        last = curves[0]
        cut = Curve(
            lr=last.lr,
            batch_size=last.batch_size,
            losses={place: loss for place, loss in last.losses.items() if place <= until},
        )
        found = estimate(cut, curves[1:])
        assert found is not None
        assert last.final is not None
        scores.append((last.final - found.loss) / found.sd)
    assert np.mean(np.abs(scores) < 1.96) >= 0.9


def test_more_and_nearer_trials_make_an_estimate_surer() -> None:
    cut = crossing(4e-3, 64, until=5)
    far = [crossing(lr, 256, noise=0.01) for lr in (1e-3, 5e-2, 1e-1)]
    near = [crossing(lr, 64, noise=0.01) for lr in (2.8e-3, 5.7e-3, 8e-3, 2e-3, 1.1e-2)]
    sds = [found.sd for some in (far, near[:3], near, far + near) if (found := estimate(cut, some)) is not None]
    assert sds[0] > 2 * sds[1] > 2 * sds[2]
    assert sds[3] < sds[1]


def test_an_estimate_late_in_the_decay_is_surer_than_one_early_in_it() -> None:
    whole = [crossing(lr, 64) for lr in (2e-3, 4e-3, 8e-3, 1.6e-2)]
    sds = [found.sd for until in (3, 6, 9) if (found := estimate(crossing(6e-3, 64, until=until), whole)) is not None]
    assert sds[0] > 1.5 * sds[1] > 5 * sds[2]


def test_fewer_than_three_completed_trials_with_a_loss_there_estimate_nothing() -> None:
    cut = crossing(4e-3, 64, until=5)
    whole = [crossing(lr, 64) for lr in (1e-3, 2e-3, 8e-3)]
    assert FEWEST == 3
    assert estimate(cut, whole) is not None
    assert estimate(cut, whole[:2]) is None
    assert estimate(cut, [*whole[:2], crossing(8e-3, 64, until=7)]) is None
    assert estimate(cut, [*whole[:2], Curve(lr=8e-3, batch_size=64, losses={4: 1.0}, final=1.0)]) is None
    assert estimate(Curve(lr=4e-3, batch_size=64, losses={}), whole) is None


finite = st.floats(-5, 5).map(lambda value: round(value, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(LRS), st.sampled_from(SIZES), finite, finite), min_size=3, max_size=9),
    finite,
    st.sampled_from([1e-3, 1.0, 1e4]),
    st.sampled_from([-100.0, 0.0, 7.0]),
)
def test_it_is_finite_and_moves_with_the_unit_and_offset_of_the_loss(
    trials: Sequence[tuple[float, int, float, float]], last: float, unit: float, offset: float
) -> None:
    def found(unit: float, offset: float) -> tuple[float, float]:
        def told(loss: float) -> float:
            return unit * loss + offset

        whole = [
            Curve(lr=lr, batch_size=size, losses={5: told(half)}, final=told(end)) for lr, size, half, end in trials
        ]
        one = estimate(Curve(lr=1e-2, batch_size=64, losses={5: told(last)}), whole)
        assert one is not None
        return one.loss, one.sd

    plain, moved = found(1.0, 0.0), found(unit, offset)
    assert np.isfinite(plain).all()
    assert plain[1] > 0
    # Offsets round the losses of a small unit.
    rounding = 1e-9 * max(abs(offset), unit, 1.0)
    assert moved[0] == pytest.approx(unit * plain[0] + offset, rel=1e-4, abs=1e3 * rounding)
    assert moved[1] == pytest.approx(unit * plain[1], rel=1e-3, abs=1e3 * rounding)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_the_completed_trials_changes_nothing(order: Sequence[int]) -> None:
    whole = [crossing(lr, size, noise=0.02) for lr, size in zip(LRS[::2], (16, 64, 256, 16, 64, 256), strict=False)]
    cut = crossing(6e-3, 64, until=5)
    one, other = estimate(cut, whole), estimate(cut, [whole[place] for place in order])
    assert one is not None
    assert other is not None
    assert other.loss == pytest.approx(one.loss, rel=1e-9)
    assert other.sd == pytest.approx(one.sd, rel=1e-9)
