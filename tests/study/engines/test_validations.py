"""Trials of any batch size are held against each other at the same share of their horizons."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.study.validations import first_validations


@given(horizon=st.integers(1, 500), every=st.integers(0, 120), count=st.integers(1, 20))
def test_each_share_is_judged_at_the_first_validation_that_has_reached_it(horizon: int, every: int, count: int) -> None:
    spec = TrialSpec(
        task={},
        schedule=ScheduleSpec(name="constant"),
        peak_lr=0.1,
        global_batch_size=8,
        horizon=horizon,
        seed=0,
        validate_every=every,
    )
    validated = sorted({*(range(every, horizon, every) if every else ()), horizon})
    places = first_validations(spec, count)
    assert list(places) == list(range(1, count + 1))
    for place, step in places.items():
        assert step == next(one for one in validated if one * count >= place * horizon)
