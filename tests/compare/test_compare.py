"""Two studies of known truth: what differs is named, what does not is not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from lrscale.compare import SUBJECTS, Contrast, Side, StudyComparison, compare_studies
from lrscale.compare.words import contrast_sentence, headline, markdown
from lrscale.errors import LrscaleError
from lrscale.laws import LRSliceFit, fit_lr_slice, fit_optimal_lr
from lrscale.recipe import Recipe
from lrscale.recommend import Refusal
from lrscale.report.comparison import comparison_cards, render_comparison
from lrscale.store import ScheduleSpec, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study.finding import Finding, Quantity
from lrscale.study.lr_answer import slice_rows

NOISE = 0.0004
LRS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@functools.cache
def swept(batch: int, best: float, level: float, *, seed: int = 0) -> LRSliceFit:
    """Return the slice of a study of three seeds, whose noise is its own."""
    random = np.random.default_rng([seed, batch])
    rows = [
        (best * step, level + 0.02 * (step + 1 / step - 2) ** 1.0 + shift + random.normal(0, NOISE), label)
        for label, shift in enumerate((0.0, 0.004, -0.003))
        for step in LRS
    ]
    lr, loss, seeds = zip(*rows, strict=True)
    return fit_lr_slice(lr, loss, seed=seeds, resamples=300)


def slices(lr: float, level: float, power: float, seed: int) -> dict[int, LRSliceFit]:
    return {batch: swept(batch, lr * 0.01 * (batch / 16) ** power, level, seed=seed) for batch in (16, 64, 256)}


@functools.cache
def fitted(lr: float, level: float, power: float, seed: int) -> dict[str, Any]:
    fits = slices(lr, level, power, seed)
    return fit_optimal_lr(list(fits), list(fits.values())).to_dict()


def study(
    label: str,
    *,
    lr: float = 1.0,
    level: float = 1.0,
    power: float = 0.5,
    seed: int = 0,
    monitor: str = "val_loss",
    horizon: int = 40_000,
    validation: str = "one",
    noise_scale: Quantity | None = None,
    speeds: Mapping[int, tuple[float, float | None, float | None]] | None = None,
    optimizer: str = "AdamW",
) -> Side:
    fits = slices(lr, level, power, seed)
    data: dict[str, Any] = {
        "horizon_examples": horizon,
        "schedule": "cosine",
        "monitor": monitor,
        "cells": [{"batch_size": batch, "slice": fit.to_dict(), "trials": []} for batch, fit in fits.items()],
        "law": fitted(lr, level, power, seed),
    }
    findings = [
        Finding(key="scaling", title="", status="ok", sentence="", tables={"slices": slice_rows(fits)}, data=data)
    ]
    if noise_scale is not None:
        row = {"batch_size": 64, "noise_scale": noise_scale.value, "lo": noise_scale.lo, "hi": noise_scale.hi}
        findings.append(Finding(key="noise_scale", title="", status="ok", sentence="", tables={"batch_sizes": (row,)}))
    if speeds is not None:
        rows = [
            {
                "num_nodes": 1,
                "devices": 2,
                "accumulate": 1,
                "per_device_batch_size": size,
                "examples_per_second": one[0],
            }
            | {"lo": one[1], "hi": one[2]}
            for size, one in speeds.items()
        ]
        findings.append(Finding(key="throughput", title="", status="ok", sentence="", data={"rows": rows}))
    spec = TrialSpec(
        task={"label": label},
        schedule=ScheduleSpec(name="cosine"),
        peak_lr=0.01,
        global_batch_size=16,
        horizon=100,
        seed=0,
    )
    facts = {"optimizers": [optimizer], "validation_hash": validation, "parameters": 8_970}
    record = TrialRecord(trial_id=spec.trial_id, status="completed", final_loss=1.0, steps=100, facts=facts)
    view = StudyView({spec.trial_id: Trial(spec, record)}, lambda _: Trajectory())
    recipe = Recipe.model_validate(
        {
            "name": "demo",
            "task": {"model": {"class_path": "shop.Net", "init_args": {"optimizer": optimizer}}},
            "experiments": {"scaling": {"batch_sizes": [16, 64, 256], "horizon": f"{horizon} examples"}},
        }
    )
    return Side(
        label=label, recipe=recipe, view=view, findings=tuple(findings), answer=Refusal(sentence="No.", needs="")
    )


def standing(comparison: StudyComparison, name: str) -> Contrast:
    return next(one for one in comparison.contrasts if one.name == name)


def test_a_best_lr_three_times_as_high_is_named_with_its_interval() -> None:
    found = compare_studies(study("adamw"), study("sgd", lr=3.0, seed=1, optimizer="SGD"))
    for batch in (16, 64, 256):
        one = standing(found, f"best peak LR at batch {batch}")
        assert one.standing == "differs"
        assert one.effect.lo is not None
        assert one.effect.hi is not None
        assert one.effect.lo < 3.0 < one.effect.hi
        assert one.effect.hi / one.effect.lo < 2
    # What the optimizer did not move is not said to differ.
    assert {one.subject for one in found.having("differs")} == {"best_lr"}
    assert [one.name for one in found.setup.different] == ["task.model.init_args.optimizer"]
    assert ("optimizers", "AdamW", "SGD") in [(one.name, one.a, one.b) for one in found.setup.measured]


def test_two_runs_of_one_study_differ_in_nothing_and_are_the_same_within_the_margin() -> None:
    found = compare_studies(study("first"), study("second", seed=1), tolerance=0.01)
    assert found.having("differs") == ()
    assert {one.subject for one in found.having("same")} >= {"best_lr", "loss", "lr_growth"}
    assert headline(found).startswith("Of 7 numbers that first and second both measured, 0 differ")


def test_a_loss_that_is_lower_is_named_and_relative_to_the_first() -> None:
    found = compare_studies(study("old"), study("new", level=0.95, seed=1))
    one = standing(found, "loss at batch 64")
    assert one.standing == "differs"
    assert one.relative[0] == pytest.approx(-0.05, abs=0.005)
    assert "new is below old, -5" in contrast_sentence(one, "old", "new")


def test_a_difference_within_a_stated_margin_is_none() -> None:
    old, new = study("old"), study("new", level=1.002, seed=1)
    assert standing(compare_studies(old, new, tolerance=0.02), "loss at batch 64").standing == "same"
    with pytest.raises(LrscaleError, match="not between 0 and 1"):
        compare_studies(old, new, tolerance=5)


def test_the_power_of_the_batch_is_compared_where_both_have_measured() -> None:
    found = compare_studies(study("square root"), study("linear", power=1.0, seed=1))
    (one,) = found.of("lr_growth")
    assert (one.standing, one.name) == ("differs", "exponent of the best LR in the batch, around 64")
    assert one.effect.value == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"monitor": "train_loss"}, "a monitors val_loss and b train_loss"),
        ({"validation": "other"}, "they validate on different data"),
        ({"horizon": 80_000}, "the trials of a see 40,000 examples and those of b 80,000"),
    ],
)
def test_losses_of_two_yardsticks_are_shown_and_not_compared(other: dict[str, Any], reason: str) -> None:
    found = compare_studies(study("a"), study("b", level=0.5, seed=1, **other))
    losses = found.of("loss")
    assert {one.standing for one in losses} == {"cannot tell"}
    assert {one.effect.value for one in losses} == {None}
    assert all(one.a.value is not None and one.note == reason for one in losses)
    assert found.setup.caveats[0] == f"Losses are not compared: {reason}."


def test_no_difference_is_named_without_an_interval() -> None:
    slow, fast = (
        {32: (100.0, 95.0, 105.0), 64: (100.0, None, None)},
        {32: (200.0, 190.0, 210.0), 64: (300.0, None, None)},
    )
    found = compare_studies(study("slow", speeds=slow), study("fast", speeds=fast))
    timed, alone = found.of("throughput")
    assert timed.standing == "differs"
    assert timed.effect.value == pytest.approx(2.0)
    assert (alone.standing, alone.effect.value, alone.note) == ("cannot tell", None, "one of them has no interval")
    for one in found.contrasts:
        assert (one.effect.value is None) or not (one.effect.lo is None and one.effect.hi is None)


def test_a_bound_tells_a_difference_that_it_excludes() -> None:
    low, high = Quantity(value=100.0, lo=80.0, hi=120.0), Quantity(value=900.0, lo=700.0, hi=None)
    found = compare_studies(study("low", noise_scale=low), study("high", noise_scale=high))
    (one,) = found.of("noise_scale")
    assert (one.standing, one.effect.hi) == ("differs", None)


def test_an_optimum_that_was_not_located_is_no_number() -> None:
    a, b = study("a"), study("b")
    cells = [dict(cell) for cell in b.scaling["cells"]]
    cells[1]["slice"] = swept(64, 10.0, 1.0).to_dict() | {
        "status": "censored_high", "best_lr": None, "min_loss": None, "min_loss_interval": None, "equivalence": None,
    }  # fmt: skip
    (scaling,) = b.findings
    b = dataclasses.replace(b, findings=(dataclasses.replace(scaling, data={**scaling.data, "cells": cells}),))
    found = compare_studies(a, b)
    assert standing(found, "best peak LR at batch 64").standing == "cannot tell"
    assert standing(found, "loss at batch 64").note == "the best LR of one of them was not located"


@pytest.mark.slow
def test_equal_studies_are_seldom_said_to_differ() -> None:
    # 20 pairs of studies of one truth with noise of their own: 140 intervals at 95 %, of which 7 may miss.
    named = tested = 0
    first = study("first")
    for seed in range(1, 21):
        found = compare_studies(first, study("second", seed=seed))
        named += len(found.having("differs"))
        tested += len(found.contrasts)
    assert named / tested <= 0.05


def test_text_page_and_data_say_the_same_numbers() -> None:
    found = compare_studies(study("<b>old</b>"), study("new", lr=3.0, seed=1))
    text, page = markdown(found), render_comparison(found)
    one = standing(found, "best peak LR at batch 64")
    assert f"{one.effect.value:.3g} x" in text
    assert f"{one.effect.value:.3g} x" in page
    assert found.to_dict()["contrasts"][1]["effect"]["value"] == one.effect.value
    assert "<b>old" not in page
    assert {card.status for card in comparison_cards(found)} <= {"ok", "cannot_tell"}


def test_every_subject_explains_itself() -> None:
    for key, subject in SUBJECTS.items():
        assert (subject.key, bool(subject.title), subject.method.endswith(".")) == (key, True, True)
