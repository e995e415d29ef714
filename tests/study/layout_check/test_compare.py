from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.study.layout_check.compare import compare, fit_weights
from lrscale.units import Layout

from .probes import BOTH, FORWARDS, LAYOUTS, RANKS, WHOLE, FloatArray, Module

SEEDS = st.integers(0, 10_000)
OTHERS = st.sampled_from(LAYOUTS[1:])


def summed(examples: FloatArray, layout: Layout) -> FloatArray:
    del layout
    return examples.sum(0)


@given(SEEDS, OTHERS, st.floats(0, 3e-7))
def test_means_of_parts_agree_whatever_the_rounding_of_single_precision(
    seed: int, layout: Layout, rounding: float
) -> None:
    module = Module(rounding=rounding)
    found = compare(module.probe(WHOLE, seed=seed), module.probe(layout, seed=seed))
    assert found is not None
    assert found.relation == "same"
    assert found.gradient_difference <= max(10 * rounding, 1e-15)


@given(SEEDS, OTHERS, st.sampled_from([2.0**-24, 2.0**-11, 2.0**-8]))
def test_sums_of_parts_are_told_by_the_number_of_parts(seed: int, layout: Layout, roundoff: float) -> None:
    module = Module(combine=summed, rounding=roundoff, roundoff=roundoff)
    found = compare(module.probe(WHOLE, seed=seed), module.probe(layout, seed=seed))
    assert found is not None
    assert found.relation == "scaled"
    assert found.scale == pytest.approx(layout.accumulate * layout.world_size, rel=1e-2)


@given(SEEDS, OTHERS)
def test_a_mean_over_items_shows_the_share_of_each_part(seed: int, layout: Layout) -> None:
    def masked(examples: FloatArray, layout: Layout) -> FloatArray:
        del layout
        items = np.floor(1 + 9 / (1 + np.exp(-examples[:, 0])))
        return items @ examples / items.sum()

    module = Module(combine=masked, rounding=1e-8)
    whole, parts = module.probe(WHOLE, seed=seed), module.probe(layout, seed=seed)
    found = compare(whole, parts)
    assert found is not None
    # The parts may hold equally many items by chance.
    assert found.relation in ("reweighted", "same")
    if found.relation == "reweighted":
        examples = np.random.default_rng((seed, found.step - 1)).normal(1.0, 1.0, (8, 64))
        items = np.floor(1 + 9 / (1 + np.exp(-examples[:, 0])))
        by_part = items.reshape(-1, layout.per_device_batch_size).sum(1) / items.sum()
        # Rank by rank and forward by forward, where the examples go forward by forward and rank by rank.
        expected = by_part.reshape(layout.accumulate, layout.world_size).T.ravel()
        np.testing.assert_allclose(found.weights, expected, rtol=1e-4)


@given(SEEDS, OTHERS)
def test_what_is_no_sum_over_examples_is_mixed(seed: int, layout: Layout) -> None:
    def normalised(examples: FloatArray, layout: Layout) -> FloatArray:
        del layout
        return ((examples / examples.std(0)) ** 2).mean(0)

    module = Module(combine=normalised)
    found = compare(module.probe(WHOLE, seed=seed), module.probe(layout, seed=seed))
    assert found is not None
    assert found.relation == "mixed"
    assert found.step == 1


def test_a_single_parameter_that_differs_is_seen_though_the_gradient_hardly_moves() -> None:
    def one_small(examples: FloatArray, layout: Layout) -> FloatArray:
        mean = examples.mean(0)
        mean[:16] *= 0.01 * layout.per_device_batch_size
        mean[16:] *= 10
        return mean

    module = Module(combine=one_small)
    found = compare(module.probe(WHOLE), module.probe(RANKS))
    assert found is not None
    assert found.relation != "same"
    assert found.steps[0].parameter == "layer.0"


def test_a_parameter_whose_gradient_is_rounding_alone_is_not_judged() -> None:
    def nothing(examples: FloatArray, layout: Layout) -> FloatArray:
        mean = examples.mean(0)
        mean[:16] = 1e-8 * np.random.default_rng(layout.per_device_batch_size).normal(size=16)
        return mean

    module = Module(combine=nothing)
    found = compare(module.probe(WHOLE), module.probe(RANKS))
    assert found is not None
    assert found.relation == "same"


def test_steps_that_the_scaler_leaves_out_everywhere_are_passed_over() -> None:
    first = np.random.default_rng((0, 0)).normal(1.0, 1.0, (8, 64))

    def overflowing(examples: FloatArray, layout: Layout) -> FloatArray:
        del layout
        return np.full(64, np.nan) if examples[0] in first else examples.mean(0)

    module = Module(combine=overflowing)
    found = compare(module.probe(WHOLE), module.probe(FORWARDS))
    assert found is not None
    assert found.relation == "same"
    assert len(found.steps) == 2


def test_a_step_that_overflows_in_one_layout_alone_is_passed_over_and_counted() -> None:
    first = np.random.default_rng((0, 0)).normal(1.0, 1.0, (8, 64))

    def overflowing(examples: FloatArray, layout: Layout) -> FloatArray:
        if layout == WHOLE:
            return np.full(64, np.nan) if examples[0] in first else examples.sum(0)
        return examples.sum(0)

    module = Module(combine=overflowing)
    found = compare(module.probe(WHOLE), module.probe(FORWARDS))
    assert found is not None
    assert (found.relation, found.step) == ("scaled", 2)


def test_layouts_without_a_step_that_is_finite_in_both_cannot_be_compared() -> None:
    def overflowing(examples: FloatArray, layout: Layout) -> FloatArray:
        return np.full(64, np.nan) if layout == BOTH else examples.mean(0)

    module = Module(combine=overflowing)
    assert compare(module.probe(WHOLE), module.probe(BOTH)) is None


def test_weights_are_not_fitted_to_too_few_numbers() -> None:
    assert fit_weights(np.ones(64), np.ones((17, 64))) is None
    assert fit_weights(np.ones(64), np.ones((1, 64))) is None
    assert fit_weights(np.zeros(64), np.ones((2, 64))) is None
