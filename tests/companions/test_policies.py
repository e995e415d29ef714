"""Companions policies against their published forms, and what every policy keeps."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lrscale.companions import COMPANIONS, SDE, AbstractCompanions, GroupSettings, HalfLife
from lrscale.errors import LrscaleError

DECAYS = st.floats(0.0, 0.99999)
RATIOS = st.floats(1 / 64, 64)
SETTINGS = st.builds(
    GroupSettings,
    beta1=st.none() | DECAYS,
    beta2=st.none() | DECAYS,
    momentum=st.none() | DECAYS,
    eps=st.none() | st.floats(1e-16, 1e-3),
    weight_decay=st.none() | st.floats(0, 1),
    decoupled=st.booleans(),
)
ADAMW = GroupSettings(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, decoupled=True)


def near(one: GroupSettings, other: GroupSettings) -> bool:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return all(left == right or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12) for left, right in pairs)


class TestEveryPolicy:
    @pytest.mark.parametrize("key", COMPANIONS)
    def test_it_is_final_documented_and_filed_under_its_own_name(self, key: str) -> None:
        policy = COMPANIONS[key]
        assert policy.key == key and policy.sentence.endswith(".")
        assert getattr(type(policy), "__final__", False)
        assert "Examples" in (type(policy).__doc__ or "")

    @given(st.sampled_from(sorted(COMPANIONS)), SETTINGS)
    def test_the_reference_batch_size_keeps_the_modules_own_settings(self, key: str, own: GroupSettings) -> None:
        moved = COMPANIONS[key].move(own, 1.0)
        assert (moved.settings, moved.warnings) == (own, ())

    @given(st.sampled_from(sorted(COMPANIONS)), SETTINGS, RATIOS, RATIOS)
    def test_two_moves_are_one_move_by_the_product(
        self, key: str, own: GroupSettings, one: float, other: float
    ) -> None:
        policy = COMPANIONS[key]
        first, whole = policy.move(own, one), policy.move(own, one * other)
        # What was held at 0, or is too small for a double, has lost where it came from.
        assume(not any("held" in warning for warning in (*first.warnings, *whole.warnings)))
        settled = (first.settings.beta1, first.settings.beta2, first.settings.momentum)
        before = (own.beta1, own.beta2, own.momentum)
        assume(
            all(not value or after > 1e-300 for value, after in zip(before, settled, strict=True) if after is not None)
        )
        assert near(policy.move(first.settings, other).settings, whole.settings)

    @given(st.sampled_from(sorted(COMPANIONS)), SETTINGS, RATIOS)
    def test_it_moves_only_what_is_there_and_stays_in_range(self, key: str, own: GroupSettings, ratio: float) -> None:
        moved = COMPANIONS[key].move(own, ratio).settings
        for field in dataclasses.fields(GroupSettings):
            assert (getattr(own, field.name) is None) == (getattr(moved, field.name) is None)
        for decay in (moved.beta1, moved.beta2, moved.momentum):
            assert decay is None or 0 <= decay <= 1
        assert moved.momentum == own.momentum

    @pytest.mark.parametrize("key", COMPANIONS)
    @pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, math.nan])
    def test_a_ratio_that_is_none_is_refused(self, key: str, ratio: float) -> None:
        with pytest.raises(LrscaleError, match="batch ratio"):
            COMPANIONS[key].move(ADAMW, ratio)


class TestSDE:
    def test_the_published_form(self) -> None:
        # Malladi et al. 2022: 1 - beta' = k (1 - beta), eps' = eps / sqrt(k).
        moved = SDE().move(ADAMW, 4.0)
        assert moved.settings.beta1 == pytest.approx(0.6)
        assert moved.settings.beta2 == pytest.approx(0.8)
        assert moved.settings.eps == pytest.approx(5e-9)
        assert moved.settings.weight_decay == 0.1
        assert moved.warnings == ()

    def test_a_beta_below_zero_is_held_there_and_said(self) -> None:
        moved = SDE().move(ADAMW, 16.0)
        assert moved.settings.beta1 == 0.0
        assert moved.settings.beta2 == pytest.approx(0.2)
        assert moved.warnings[0].startswith("companions sde: beta1 would be -0.6 at 16 times")
        assert "beta2 0.2" in moved.warnings[1] and "outside of the rule's range" in moved.warnings[1]
        assert SDE().move(dataclasses.replace(ADAMW, beta1=0.9), 10.0).settings.beta1 == pytest.approx(0.0, abs=1e-12)

    def test_sgd_keeps_its_momentum(self) -> None:
        own = GroupSettings(momentum=0.9, weight_decay=1e-4)
        assert SDE().move(own, 8.0).settings == own


class TestHalfLife:
    @given(st.floats(0.5, 0.9999), RATIOS)
    def test_the_second_moment_forgets_in_the_same_number_of_examples(self, beta2: float, ratio: float) -> None:
        moved = HalfLife().move(dataclasses.replace(ADAMW, beta2=beta2), ratio).settings
        assert moved.beta2 is not None
        assume(0 < moved.beta2 < 1)
        # Steps to one half, times examples of a step.
        assert math.log(0.5) / math.log(moved.beta2) * ratio == pytest.approx(math.log(0.5) / math.log(beta2))

    def test_the_published_example(self) -> None:
        # Marek et al. 2025 go from batch 512 with beta2 0.95 to batch 1 with beta2 0.9999.
        moved = HalfLife().move(ADAMW, 1 / 512).settings
        assert moved.beta2 == pytest.approx(0.9999, abs=5e-6)
        assert (moved.beta1, moved.eps) == (0.9, 1e-8)

    @given(RATIOS, st.floats(1e-5, 1e-1))
    def test_weight_decay_keeps_its_time_scale_in_examples_at_a_given_lr(self, ratio: float, lr: float) -> None:
        moved = HalfLife().move(ADAMW, ratio).settings
        assert moved.weight_decay is not None and ADAMW.weight_decay is not None
        assert ratio / (lr * moved.weight_decay) == pytest.approx(1 / (lr * ADAMW.weight_decay))

    def test_weight_decay_that_is_added_to_the_gradient_stays(self) -> None:
        own = dataclasses.replace(ADAMW, decoupled=False)
        assert HalfLife().move(own, 8.0).settings.weight_decay == 0.1

    @given(st.floats(1e-6, 1e-3), st.floats(1 / 8, 8))
    def test_it_agrees_with_the_sde_rule_where_that_holds(self, share: float, ratio: float) -> None:
        own = dataclasses.replace(ADAMW, beta2=1 - share)
        one, other = HalfLife().move(own, ratio).settings, SDE().move(own, ratio).settings
        assert one.beta2 is not None and other.beta2 is not None
        assert abs(one.beta2 - other.beta2) <= (ratio * share) ** 2 + share**2 * ratio


def _parameter() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2))]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: torch.optim.AdamW(_parameter(), betas=(0.9, 0.95)),
            {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.01, "decoupled": True},
        ),
        (
            lambda: torch.optim.Adam(_parameter(), weight_decay=0.1),
            {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "decoupled": False},
        ),
        (lambda: torch.optim.SGD(_parameter(), lr=0.1, momentum=0.9), {"momentum": 0.9, "weight_decay": 0}),
        (
            lambda: torch.optim.RMSprop(_parameter(), alpha=0.95),
            {"beta2": 0.95, "eps": 1e-8, "momentum": 0, "weight_decay": 0},
        ),
    ],
)
def test_the_settings_of_torchs_optimizers_are_read(make: Any, expected: dict[str, Any]) -> None:
    optimizer = make()
    settings = GroupSettings.of(optimizer.param_groups[0], type(optimizer).__name__)
    assert settings.to_dict() == {"decoupled": False, **expected}


@pytest.mark.parametrize("policy", COMPANIONS.values(), ids=list(COMPANIONS))
def test_what_is_changed_in_a_group_is_what_the_policy_says(policy: AbstractCompanions) -> None:
    for group in (
        {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1},
        {"lr": 0.1, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    ):
        own = GroupSettings.of(group, "AdamW")
        moved = policy.move(own, 2.0).settings
        changed = own.changes(moved, group)
        assert GroupSettings.of({**group, **changed}, "AdamW") == moved
        assert "lr" not in changed
        assert (changed == {}) == (policy.key == "none")


def test_betas_that_are_no_moments_of_adam_are_left_alone() -> None:
    for group in ({"betas": (0.9, 0.99), "weight_decay": 0.1}, {"betas": (0.9, 0.92, 0.99), "eps": 1e-8}):
        own = GroupSettings.of(group, "Other")
        assert (own.beta1, own.beta2) == (None, None)
        assert "betas" not in own.changes(HalfLife().move(own, 4.0).settings, group)
