"""Published laws say what their papers say, where they say it, in one unit."""

from __future__ import annotations

import pytest

from lrscale.errors import LrscaleError
from lrscale.laws.published import PUBLISHED_LAWS, AbstractPublishedLaw, Scale

NEAR = Scale(params=2e8, tokens=4e9)
FAR = Scale(params=1e9, tokens=2e10, loss=2.5)


def test_step_law_gives_the_setting_of_its_largest_test_run() -> None:
    # arXiv:2503.04715 checks the law at 1.07B parameters and 100B tokens; eqs. 1 and 2 with N without embeddings.
    answer = PUBLISHED_LAWS["step_law"].answer(Scale(params=1.073741824e9, tokens=1e11))
    assert answer.lr == pytest.approx(1.79 * 1073741824**-0.713 * 1e11**0.307)
    assert answer.lr == pytest.approx(1.55e-3, rel=0.01)
    assert answer.batch_tokens == pytest.approx(1.11e6, rel=0.01)
    assert not answer.outside


def test_deepseek_gives_the_settings_of_its_own_large_models() -> None:
    # arXiv:2401.02954, table 2: 7B at 2T tokens was trained at LR 4.2e-4 and 2304 sequences of 4096, 67B at 3.2e-4 and
    # 4608 sequences. FLOPs per token: 72 layers width^2 + 12 layers width context, eq. 2.
    per_token = [72 * layers * width**2 + 12 * layers * width * 4096 for layers, width in ((30, 4096), (95, 8192))]
    small = PUBLISHED_LAWS["deepseek"].answer(Scale(params=6.9e9, tokens=2e12, flops_per_token=per_token[0]))
    large = PUBLISHED_LAWS["deepseek"].answer(Scale(params=6.7e10, tokens=2e12, flops_per_token=per_token[1]))
    assert small.lr == pytest.approx(4.2e-4, rel=0.1)
    assert small.batch_tokens == pytest.approx(2304 * 4096, rel=0.1)
    assert large.lr == pytest.approx(3.2e-4, rel=0.1)
    assert large.batch_tokens == pytest.approx(4608 * 4096, rel=0.1)
    assert small.outside


def test_minicpm_needs_the_loss_for_its_batch() -> None:
    law = PUBLISHED_LAWS["minicpm"]
    assert law.answer(NEAR).batch_tokens is None
    assert "loss" in law.answer(NEAR).silent
    # 1.21e9 / 2.5^6.24
    assert law.answer(FAR).batch_tokens == pytest.approx(3.98e6, rel=0.01)


def test_a_batch_that_is_longer_than_the_run_is_not_told() -> None:
    # A loss of another task, far below any of C4, asks MiniCPM for 1e26 tokens.
    answer = PUBLISHED_LAWS["minicpm"].answer(Scale(params=1e8, tokens=1e10, loss=2e-3))
    assert answer.batch_tokens is None
    assert answer.silent.endswith("tokens is longer than the whole run")


def test_laws_without_a_factor_start_from_what_was_measured() -> None:
    measured = {"lr": 2e-3, "batch_tokens": 262144.0}
    assert PUBLISHED_LAWS["bjorck"].answer(FAR).lr is None
    carried = PUBLISHED_LAWS["bjorck"].answer(FAR, near=NEAR, measured=measured)
    assert carried.lr == pytest.approx(2e-3 * 5**-0.23 * 5**-0.32)
    assert carried.batch_tokens is None
    batch = PUBLISHED_LAWS["power_lines"].answer(FAR, near=NEAR, measured=measured)
    assert (batch.lr, batch.batch_tokens) == (None, pytest.approx(262144 * 5**0.383))


def test_the_two_laws_of_the_horizon_differ_in_sign() -> None:
    # Along the best batch the best LR rises with the tokens, at a fixed batch it falls: not the same question.
    near, far = Scale(params=1e9, tokens=2e10), Scale(params=1e9, tokens=8e10)
    assert PUBLISHED_LAWS["step_law"].lr_ratio(near, far) == pytest.approx(4**0.307)
    assert PUBLISHED_LAWS["bjorck"].lr_ratio(near, far) == pytest.approx(4**-0.32)


@pytest.mark.parametrize("law", PUBLISHED_LAWS.values(), ids=list(PUBLISHED_LAWS))
def test_every_law_states_its_source_units_and_range(law: AbstractPublishedLaw) -> None:
    assert law.arxiv.split(".")[0].isdigit()
    assert law.arxiv in (type(law).__doc__ or "")
    assert law.counts
    assert law.conventions
    assert law.params_range[0] < law.params_range[1]
    assert law.tokens_range[0] < law.tokens_range[1]
    assert law.outside(Scale(params=1e3, tokens=1e4))
    answer = law.answer(NEAR)
    assert answer.lr is None or 1e-5 < answer.lr < 0.1
    assert (answer.lr is not None and answer.batch_tokens is not None) or answer.silent


@pytest.mark.parametrize("law", PUBLISHED_LAWS.values(), ids=list(PUBLISHED_LAWS))
def test_a_law_carries_nothing_to_where_it_starts(law: AbstractPublishedLaw) -> None:
    for ratio in (law.lr_ratio(FAR, FAR), law.batch_ratio(FAR, FAR)):
        assert ratio is None or ratio == pytest.approx(1.0)


@pytest.mark.parametrize("law", PUBLISHED_LAWS.values(), ids=list(PUBLISHED_LAWS))
def test_every_law_speaks_of_the_lr_or_the_batch(law: AbstractPublishedLaw) -> None:
    answer = law.answer(FAR, near=NEAR, measured={"lr": 2e-3, "batch_tokens": 262144.0})
    assert answer.lr is not None or answer.batch_tokens is not None


def test_a_scale_must_be_positive() -> None:
    with pytest.raises(LrscaleError, match="tokens must be a positive number, not 0"):
        Scale(params=1e9, tokens=0)
