from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrscale.study.layout_check.diagnosis import diagnose
from lrscale.study.layout_check.runs import Run, Runs, further
from lrscale.units import Layout

from .probes import BOTH, FORWARDS, RANKS, WHOLE, FloatArray, Module, plain_runs, run_of


def noisy(examples: FloatArray, layout: Layout) -> FloatArray:
    own = np.random.default_rng((layout.world_size, layout.accumulate, len(examples)))
    return examples.mean(0) + 0.5 * own.normal(size=64)


def normalised(examples: FloatArray, layout: Layout) -> FloatArray:
    del layout
    return ((examples / examples.std(0)) ** 2).mean(0)


CLEAN = Module(rounding=1e-8)
DROPPING = Module(combine=noisy, drew=True)
NORMALISED = Module(combine=normalised, batch_norm=(("body.1", "BatchNorm1d"),))


def kinds(runs: list[Run]) -> list[str]:
    return [cause.kind for cause in diagnose(runs).causes]


def test_a_clean_module_needs_no_further_trial_and_passes() -> None:
    runs = plain_runs(CLEAN)
    assert further(Runs(runs)) == []
    found = diagnose(runs)
    assert found.status == "same"
    assert found.causes == ()
    assert "2 devices x 4, 1 device x 4 x 2 forwards and 2 devices x 2 x 2 forwards agree" in found.sentence


def test_a_module_that_draws_is_asked_again_with_other_numbers_and_without_dropout() -> None:
    runs = plain_runs(DROPPING)
    assert further(Runs(runs)) == [
        ("reseeded", WHOLE),
        ("quiet", WHOLE),
        ("quiet", RANKS),
        ("quiet", FORWARDS),
        ("quiet", BOTH),
    ]


def test_dropout_is_told_from_layout_by_taking_it_out() -> None:
    other = dataclasses.replace(DROPPING, rounding=0.5)
    runs = [*plain_runs(DROPPING), run_of(other, WHOLE, "reseeded")]
    quiet = [run_of(CLEAN, layout, "quiet") for layout in (WHOLE, RANKS, FORWARDS, BOTH)]
    assert further(Runs([*runs, *quiet])) == []
    found = diagnose([*runs, *quiet])
    assert found.status == "same"
    assert [cause.kind for cause in found.causes] == ["randomness"]
    assert "Without dropout they agree" in found.sentence


def test_random_numbers_that_cannot_be_silenced_are_held_against_another_seed() -> None:
    noise = dataclasses.replace(DROPPING, rounding=0.3)
    runs = [
        *plain_runs(noise),
        run_of(dataclasses.replace(noise, rounding=0.5), WHOLE, "reseeded", course=1),
        *(run_of(noise, layout, "quiet") for layout in (WHOLE, RANKS, FORWARDS, BOTH)),
    ]
    assert diagnose(runs).status == "cannot_compare"
    assert kinds(runs) == ["randomness"]


def test_batch_normalisation_is_named_once_the_layouts_agree_without_it() -> None:
    runs = plain_runs(NORMALISED)
    assert further(Runs(runs)) == [("frozen", WHOLE), ("frozen", RANKS), ("frozen", FORWARDS), ("frozen", BOTH)]
    frozen = [run_of(CLEAN, layout, "frozen") for layout in (WHOLE, RANKS, FORWARDS, BOTH)]
    found = diagnose([*runs, *frozen])
    assert [cause.kind for cause in found.causes] == ["batch_statistics"]
    assert "body.1 (BatchNorm1d)" in found.sentence
    assert "SyncBatchNorm" in (found.remedy or "")


def test_batch_normalisation_is_not_blamed_where_the_layouts_differ_without_it() -> None:
    frozen = [run_of(Module(combine=normalised), layout, "frozen") for layout in (WHOLE, RANKS, FORWARDS, BOTH)]
    assert kinds([*plain_runs(NORMALISED), *frozen]) == ["across_examples"]


def test_a_summed_loss_behind_batch_normalisation_shows_too() -> None:
    summed = Module(combine=lambda examples, layout: examples.sum(0))
    frozen = [run_of(summed, layout, "frozen") for layout in (WHOLE, RANKS, FORWARDS, BOTH)]
    assert kinds([*plain_runs(NORMALISED), *frozen]) == ["batch_statistics", "sum_reduction"]


def test_ranks_that_read_the_same_are_named_and_asked_nothing_more() -> None:
    runs = [run_of(CLEAN, WHOLE), run_of(Module(identical=True), RANKS), run_of(CLEAN, FORWARDS)]
    assert further(Runs(runs)) == []
    found = diagnose(runs)
    assert [cause.kind for cause in found.causes] == ["identical_batches"]
    assert found.fatal
    assert "the global batch is 4 and not 8" in found.sentence


def test_a_loss_scaled_by_the_ranks_is_not_a_sum() -> None:
    assert kinds(plain_runs(Module(combine=lambda examples, layout: layout.world_size * examples.mean(0)))) == [
        "rank_scaling"
    ]


def test_without_an_undivided_layout_the_first_that_trained_is_the_reference() -> None:
    runs = plain_runs(CLEAN)
    lost = Run(layout=WHOLE, stage="plain", status="out_of_memory", reason="no memory", probe=None)
    found = diagnose([lost, *runs[1:]])
    assert found.status == "same"
    assert "agree with those of 2 devices x 4" in found.sentence


def test_a_crash_of_one_layout_is_told_with_its_reason() -> None:
    crashed = Run(layout=RANKS, stage="plain", status="crashed", reason="KeyError: 'x'", probe=None)
    found = diagnose([run_of(CLEAN, WHOLE), crashed, run_of(CLEAN, FORWARDS)])
    assert found.status == "differs"
    assert found.fatal
    assert "KeyError: 'x'" in found.sentence


@pytest.mark.parametrize("runs", [[], [run_of(CLEAN, WHOLE)]])
def test_one_layout_alone_is_nothing_to_compare(runs: list[Run]) -> None:
    found = diagnose(runs)
    assert found.status == "cannot_compare"
    assert "nothing to compare" in found.sentence


def test_memory_that_is_too_small_for_all_but_one_is_said() -> None:
    lost = [
        Run(layout=layout, stage="plain", status="out_of_memory", reason="no memory", probe=None)
        for layout in (WHOLE, RANKS)
    ]
    found = diagnose([*lost, run_of(CLEAN, FORWARDS)])
    assert found.status == "cannot_compare"
    assert "1 device x 8 out of memory" in found.sentence
