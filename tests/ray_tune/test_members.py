"""Schedulers and algorithms by name, what they refuse, and what so few trials leave of them. No Ray is needed."""

from __future__ import annotations

import importlib.metadata

import pytest

from lrscale.errors import LrscaleError
from lrscale.ray_tune import ALGORITHMS, RETIRED, SCHEDULERS, make


def test_the_families_are_complete() -> None:
    assert set(SCHEDULERS) == {"none", "asha", "median", "hyperband", "bohb", "pbt", "pb2"}
    assert set(ALGORITHMS) == {"random", "bayesopt", "bohb", "nevergrad", "optuna", "hyperopt", "zoopt"}
    assert set(RETIRED) == {"sigopt", "ax", "hebo"}


@pytest.mark.parametrize(("family", "name"), [(f, n) for f in (SCHEDULERS, ALGORITHMS) for n in f])
def test_every_member_says_what_it_is_and_is_made_from_its_defaults(family: dict[str, type], name: str) -> None:
    member = make(family, name, {})  # type: ignore[arg-type]  # either family
    assert member.title
    assert type(member).__doc__
    for pin in member.pins:
        assert pin.tested.count(".") >= 1


def test_algorithms_that_a_scheduler_names_exist_and_name_it_back() -> None:
    for scheduler in SCHEDULERS.values():
        assert set(scheduler.algorithms or ()) <= set(ALGORITHMS)


@pytest.mark.parametrize(
    ("family", "name", "settings", "words"),
    [
        (SCHEDULERS, "asah", {}, "unknown scheduler of Ray Tune asah; did you mean asha?"),
        (SCHEDULERS, "asha", {"reduction": 3}, "scheduler of Ray Tune asha has no setting reduction; did you mean"),
        (SCHEDULERS, "none", {"first": 1}, "scheduler of Ray Tune none has no setting first; it has none"),
        (SCHEDULERS, "hyperband", {"reduction_factor": 1}, "reduction_factor must be at least 2, not 1"),
        (SCHEDULERS, "pbt", {"factor": 0.8}, "factor must be above 1, not 0.8"),
        (ALGORITHMS, "bayes", {}, "unknown search algorithm of Ray Tune bayes; did you mean bayesopt?"),
    ],
)
def test_what_does_not_work_out_is_refused(family: object, name: str, settings: dict[str, float], words: str) -> None:
    with pytest.raises(LrscaleError) as caught:
        make(family, name, settings)  # type: ignore[arg-type, type-var]  # either family
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("name", "fewest", "length"),
    # HyperBand over 9 validations fills a bracket of 3 that halves nothing, then one that keeps 2: six trials. Over 27
    # its first bracket has 4 and the second keeps 2.
    [("hyperband", 6, 9), ("hyperband", 7, 27), ("asha", 3, 9), ("median", 4, 9), ("pbt", 4, 9), ("pb2", 4, 9)],
)
def test_too_few_trials_for_a_scheduler_are_told(name: str, fewest: int, length: int) -> None:
    scheduler = make(SCHEDULERS, name, {})
    assert scheduler.concern(fewest, length) is None
    told = scheduler.concern(fewest - 1, length)
    assert told is not None
    assert f"It takes {fewest}" in told or f"it takes {fewest}" in told


def test_one_validation_leaves_hyperband_nothing_to_halve() -> None:
    assert "over 1 validations" in (make(SCHEDULERS, "hyperband", {}).concern(50, 1) or "")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, "bayesian-optimization is not installed"),
        ("3.4.0", "bayesian-optimization 3.4.0 does not work with Ray"),
        ("2.0.0rc1", "bayesian-optimization 2.0.0rc1 does not work with Ray"),
    ],
)
def test_a_missing_or_refused_package_is_named_with_the_version_that_works(
    version: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(LrscaleError) as caught:
        ALGORITHMS["bayesopt"].require()
    assert words in str(caught.value)
    assert "bayesian-optimization==1.4.0" in str(caught.value)
