"""The schedule that follows the validation loss: torch's rule, told the same losses."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.schedules import SCHEDULES, ReduceOnPlateau, build_schedule, is_pure


@given(
    losses=st.lists(st.floats(0.1, 3.0) | st.just(float("nan")), min_size=1, max_size=40),
    gamma=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    threshold=st.sampled_from([0.0, 1e-4, 0.1]),
    final=st.sampled_from([0.0, 0.05]),
)
def test_it_is_torchs_after_every_validation(
    losses: list[float], gamma: float, patience: int, cooldown: int, threshold: float, final: float
) -> None:
    import torch

    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=gamma, patience=patience, cooldown=cooldown, threshold=threshold, min_lr=final, eps=0.0
    )
    ours = ReduceOnPlateau(gamma=gamma, patience=patience, cooldown=cooldown, threshold=threshold, final_factor=final)
    seen: list[tuple[int, float]] = []
    for index, loss in enumerate(losses):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.step(loss)
        seen.append((10 * (index + 1), loss))
        assert ours.told(seen).factor(0, 1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_validations_of_the_warm_up_do_not_count() -> None:
    schedule = build_schedule("reduce_on_plateau", {"patience": 0, "gamma": 0.5}, warmup_steps=20)
    assert schedule.told([(10, 1.0), (20, 9.0)]).factor(20, 100) == 1.0
    assert schedule.told([(10, 1.0), (20, 9.0), (30, 2.0), (40, 2.0)]).factor(40, 100) == 0.5


def test_it_alone_is_no_pure_function_and_others_go_on_as_they_are_whatever_they_are_told() -> None:
    assert [name for name in SCHEDULES if not is_pure(name)] == ["reduce_on_plateau"]
    for name in SCHEDULES:
        if is_pure(name):
            schedule = build_schedule(name)
            assert schedule.told([(1, 2.0), (2, 3.0)]) is schedule


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gamma": 1.0}, "gamma must be in (0, 1), not 1.0"),
        ({"patience": -1}, "patience must be at least 0, not -1"),
        ({"threshold": 1}, "threshold must be in [0, 1), not 1"),
        ({"final_factor": 2}, "final_factor must be in [0, 1], not 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(LrscaleError, match=said.replace("(", r"\(").replace("[", r"\[").replace(")", r"\)")):
        build_schedule("reduce_on_plateau", settings)
