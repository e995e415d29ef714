from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.schedules import group_base_lr, momentum_setting, scaled_lrs

LRS = st.floats(1e-8, 1e3)


@given(st.lists(st.floats(0, 1e3), max_size=5), LRS, LRS, st.floats(0, 1))
def test_ratios_survive_and_the_reference_gets_the_peak(
    others: list[float], reference: float, peak: float, factor: float
) -> None:
    lrs = scaled_lrs([reference, *others], reference, peak, factor)
    assert lrs[0] == peak * factor
    for base, lr in zip(others, lrs[1:], strict=True):
        assert lr == pytest.approx(base / reference * peak * factor, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("reference", [0.0, float("nan"), float("inf"), -1.0])
def test_a_reference_without_ratio_is_refused(reference: float) -> None:
    with pytest.raises(LrscaleError, match="have no ratio to it"):
        scaled_lrs([reference], reference, 1.0, 1.0)


@pytest.mark.parametrize(
    ("group", "lr"),
    [
        ({"lr": 0.1}, 0.1),
        ({"lr": 0.0, "initial_lr": 0.2}, 0.2),
        ({"lr": 0.004, "initial_lr": 0.004, "max_lr": 0.1}, 0.1),
        ({"lr": 0.1, "initial_lr": None}, 0.1),
    ],
)
def test_the_base_lr_is_what_the_group_was_built_with(group: dict[str, float], lr: float) -> None:
    assert group_base_lr(group) == lr


def test_a_group_without_a_usable_lr_is_refused() -> None:
    with pytest.raises(LrscaleError, match="has no lr"):
        group_base_lr({"weight_decay": 0.1})
    with pytest.raises(LrscaleError, match="lr of a parameter group is nan"):
        group_base_lr({"lr": float("nan")})


def test_momentum_goes_where_the_optimizer_keeps_it() -> None:
    assert momentum_setting({"betas": (0.9, 0.95, 0.999)}, 0.5) == {"betas": (0.5, 0.95, 0.999)}
    assert momentum_setting({"momentum": 0.9}, 0.5) == {"momentum": 0.5}
    assert momentum_setting({"lr": 0.1}, 0.5) == {}
