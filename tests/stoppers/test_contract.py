"""Every stopper: its bounds follow from the earlier trials alone, and end what it says they end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.stoppers import STOPPERS, Bound, Candidate, Earlier, build_stopper, expected_shares
from lrscale.stoppers.unfinished import Curve, estimate

VALIDATIONS = 10


def courses(losses: list[list[float]]) -> list[Earlier]:
    """Return trials that have reached as many validations as they have losses."""
    return [
        Earlier(number=number, losses=dict(enumerate(own, start=1)), completed=len(own) == VALIDATIONS)
        for number, own in enumerate(losses)
    ]


COURSES = st.lists(
    st.lists(st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 3)), min_size=1, max_size=VALIDATIONS),
    max_size=14,
).map(courses)


@pytest.mark.parametrize("name", STOPPERS)
def test_the_first_trial_is_never_ended(name: str) -> None:
    assert build_stopper(name).bounds(0, [], VALIDATIONS) == {}


@pytest.mark.parametrize("name", STOPPERS)
@given(earlier=COURSES)
def test_no_bound_is_at_the_horizon_or_from_trials_that_were_not_there(name: str, earlier: list[Earlier]) -> None:
    bounds = build_stopper(name).bounds(len(earlier), earlier, VALIDATIONS)
    for place, bound in bounds.items():
        there = [one.losses[place] for one in earlier if place in one.losses]
        assert 1 <= place < VALIDATIONS
        assert 1 <= bound.among <= len(there)
        assert min(there) <= bound.loss <= max(there)


@pytest.mark.parametrize("name", STOPPERS)
@given(earlier=COURSES)
def test_the_order_in_which_earlier_trials_are_told_changes_nothing(name: str, earlier: list[Earlier]) -> None:
    stopper = build_stopper(name)
    assert stopper.bounds(20, earlier, VALIDATIONS) == stopper.bounds(20, earlier[::-1], VALIDATIONS)


@pytest.mark.parametrize("name", STOPPERS)
@given(earlier=COURSES, shift=st.sampled_from([-64.0, 0.5, 1024.0]), scale=st.sampled_from([0.25, 2.0]))
def test_an_offset_and_a_unit_of_the_loss_change_no_decision(
    name: str, earlier: list[Earlier], shift: float, scale: float
) -> None:
    stopper = build_stopper(name)
    moved = [
        Earlier(
            number=one.number,
            losses={place: scale * loss + shift for place, loss in one.losses.items()},
            completed=one.completed,
        )
        for one in earlier
    ]
    before, after = stopper.bounds(20, earlier, VALIDATIONS), stopper.bounds(20, moved, VALIDATIONS)
    assert before.keys() == after.keys()
    for place, bound in before.items():
        assert math.isclose(after[place].loss, scale * bound.loss + shift, abs_tol=1e-9)


@pytest.mark.parametrize("name", STOPPERS)
def test_trials_are_expected_to_train_less_the_more_are_known(name: str) -> None:
    shares = expected_shares(build_stopper(name), 30, VALIDATIONS)
    assert shares[0] == 1.0
    assert all(1 / VALIDATIONS <= share <= 1 for share in shares)
    assert sum(shares[20:]) < 0.8 * sum(shares[:10])


@pytest.mark.parametrize("name", STOPPERS)
def test_with_one_validation_no_trial_can_end_early(name: str) -> None:
    many = courses([[float(number)] for number in range(20)])
    assert build_stopper(name).bounds(20, many, 1) == {}
    assert expected_shares(build_stopper(name), 5, 1) == [1.0] * 5


def test_the_best_third_passes_a_rung_and_the_trial_counts_itself() -> None:
    # Of 8 earlier trials and itself the best 3 pass: a trial as good as the third of the others is one of them.
    earlier = courses([[float(number)] for number in range(8)])
    bounds = build_stopper("successive_halving", {"reduction_factor": 3}).bounds(8, earlier, VALIDATIONS)
    assert bounds == {1: Bound(loss=2.0, among=8)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction_factor": 1}, "reduction_factor must be at least 2, not 1"),
        ({"reduction_factor": 2.5}, "reduction_factor of stopper hyperband must be a whole number, not 2.5"),
        ({"frst": 1}, "stopper hyperband has no setting frst; did you mean first?"),
    ],
)
def test_a_setting_that_is_none_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(LrscaleError) as caught:
        build_stopper("hyperband", settings)
    assert message in str(caught.value)


LATE = {place: place / VALIDATIONS for place in range(1, VALIDATIONS + 1)}


def candidate(lr: float, batch_size: int = 64, decayed: dict[int, float] | None = None) -> Candidate:
    return Candidate(lr=lr, batch_size=batch_size, decayed=decayed or LATE)


def trial(lr: float, loss: float, *, completed: bool = True, batch_size: int = 64) -> Earlier:
    losses = dict.fromkeys(range(1, VALIDATIONS + 1), loss)
    return Earlier(number=0, losses=losses, completed=completed, lr=lr, batch_size=batch_size)


SLICE = [trial(lr, loss) for lr, loss in ((0.25, 3.0), (0.5, 2.0), (1.0, 1.0), (2.0, 2.5), (4.0, 3.5))]


def test_survivors_ends_a_trial_behind_two_others_of_its_side_and_above_them() -> None:
    rule = build_stopper("survivors")
    assert set(rule.bounds(5, SLICE, VALIDATIONS, candidate(8.0)).values()) == {Bound(loss=3.5, among=5)}
    assert set(rule.bounds(5, SLICE, VALIDATIONS, candidate(0.125)).values()) == {Bound(loss=3.0, among=5)}
    # Two survivors on a side are never given up.
    for lr in (0.25, 0.5, 1.0, 1.5, 2.0, 4.0):
        assert rule.bounds(5, SLICE, VALIDATIONS, candidate(lr)) == {}


def test_survivors_waits_for_half_of_the_decay_wherever_that_lies() -> None:
    rule = build_stopper("survivors")
    assert min(rule.bounds(5, SLICE, VALIDATIONS, candidate(8.0))) == 5
    wsd = {**dict.fromkeys(range(1, 9), 0.0), 9: 0.5, 10: 1.0}
    assert set(rule.bounds(5, SLICE, VALIDATIONS, candidate(8.0, decayed=wsd))) == {9}
    later = build_stopper("survivors", {"decayed": 80})
    assert min(later.bounds(5, SLICE, VALIDATIONS, candidate(8.0))) == 8


def test_survivors_compares_complete_trials_of_its_own_batch_size_alone() -> None:
    rule = build_stopper("survivors")
    assert rule.bounds(5, SLICE, VALIDATIONS, candidate(8.0, batch_size=128)) == {}
    stopped = [*SLICE[:3], trial(2.0, 2.5), trial(4.0, 3.5, completed=False)]
    assert rule.bounds(5, stopped, VALIDATIONS, candidate(8.0)) == {}
    assert build_stopper("survivors", {"keep": 1}).bounds(5, stopped, VALIDATIONS, candidate(8.0)) != {}


def test_survivors_decides_nothing_of_a_trial_that_it_does_not_know() -> None:
    assert build_stopper("survivors").bounds(5, SLICE, VALIDATIONS) == {}
    unknown = [Earlier(number=0, losses=one.losses, completed=True) for one in SLICE]
    assert build_stopper("survivors").bounds(5, unknown, VALIDATIONS, candidate(8.0)) == {}


@pytest.mark.parametrize(("settings", "message"), [({"keep": 0}, "at least 1"), ({"decayed": 100}, "at most 99")])
def test_settings_of_survivors_have_bounds(settings: dict[str, int], message: str) -> None:
    with pytest.raises(LrscaleError, match=message):
        build_stopper("survivors", settings)


def crossing(lr: float, *, batch_size: int = 64, completed: bool = True) -> Earlier:
    """Return a trial whose loss, best at an LR of 1 in the end, has a part that rises with the LR and decays away."""
    away = math.log(lr)
    losses = {place: 1 + 0.2 * away**2 + 0.5 * lr**0.5 * (1 - place / VALIDATIONS) for place in LATE}
    return Earlier(number=0, losses=losses, completed=completed, lr=lr, batch_size=batch_size)


CROSSING = [crossing(lr) for lr in (0.25, 0.5, 1.0, 2.0, 4.0)]


@pytest.mark.parametrize("lr", [0.06, 0.125, 0.7, 1.4, 8.0, 16.0])
def test_predicted_ends_a_trial_where_its_prediction_is_surely_above_the_lowest_loss(lr: float) -> None:
    bounds = build_stopper("predicted").bounds(5, CROSSING, VALIDATIONS, candidate(lr))
    assert set(bounds) == set(range(1, VALIDATIONS))
    curves = [
        Curve(lr=one.lr or 0.0, batch_size=64, losses=one.losses, final=one.losses[VALIDATIONS]) for one in CROSSING
    ]
    lowest = min(one.losses[VALIDATIONS] for one in CROSSING)
    for place, bound in bounds.items():
        highest = max(one.losses[place] for one in CROSSING)
        at = estimate(Curve(lr=lr, batch_size=64, losses={place: bound.loss}), curves)
        assert at is not None
        assert bound.loss >= highest
        # At the bound the two meet, unless it is that of a trial ahead of others there, which never ends.
        met = at.loss - 2 * at.sd - lowest
        assert met == pytest.approx(0.0, abs=0.02) or (bound.loss == highest and met > 0)


def test_predicted_ends_hopeless_trials_before_the_decay_and_no_good_one() -> None:
    rule = build_stopper("predicted")

    def end(lr: float) -> int | None:
        bounds, losses = rule.bounds(5, CROSSING, VALIDATIONS, candidate(lr)), crossing(lr).losses
        return next((place for place in sorted(bounds) if losses[place] > bounds[place].loss), None)

    assert (end(16.0) or VALIDATIONS) <= 3
    assert (end(0.03) or VALIDATIONS) <= 5
    assert [end(lr) for lr in (0.4, 0.7, 1.0, 1.4, 3.0)] == [None] * 5
    patient = build_stopper("predicted", {"deviations": 3})
    later = patient.bounds(5, CROSSING, VALIDATIONS, candidate(16.0))
    sooner = rule.bounds(5, CROSSING, VALIDATIONS, candidate(16.0))
    assert all(later[place].loss >= bound.loss for place, bound in sooner.items())
    assert later[1].loss > sooner[1].loss


@pytest.mark.parametrize(("deviations", "message"), [(0, "at least 1"), (4, "at most 3")])
def test_deviations_of_predicted_have_bounds(deviations: int, message: str) -> None:
    with pytest.raises(LrscaleError, match=message):
        build_stopper("predicted", {"deviations": deviations})


def test_predicted_decides_nothing_from_fewer_than_three_trials_or_of_one_that_it_does_not_know() -> None:
    rule = build_stopper("predicted")
    assert rule.bounds(2, CROSSING[:2], VALIDATIONS, candidate(16.0)) == {}
    stopped = [*CROSSING[:2], *(crossing(lr, completed=False) for lr in (1.0, 2.0, 4.0))]
    assert rule.bounds(5, stopped, VALIDATIONS, candidate(16.0)) == {}
    assert rule.bounds(5, CROSSING, VALIDATIONS) == {}
    unknown = [Earlier(number=0, losses=one.losses, completed=True) for one in CROSSING]
    assert rule.bounds(5, unknown, VALIDATIONS, candidate(16.0)) == {}
