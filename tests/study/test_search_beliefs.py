"""What a search believes before its first trial: range test, noise scale, a published law that was named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.laws.noise_scale import GradientSums, NoiseScale, RunNoiseScale, noise_scale
from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study import Study, read_findings
from lrscale.study.experiments import Context
from lrscale.study.finding import Finding
from lrscale.study.planner import Belief
from lrscale.study.progress import SilentProgress
from lrscale.study.search.beliefs import Believed
from lrscale.study.search.setup import Setup
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import FACTS, SyntheticLauncher

EXAMPLES = 40_000
MODEL = {**FACTS, "parameters": 1_100_000_000, "embedding_parameters": 100_000_000, "sequence_length": 2048}
"""A language model of a billion parameters without its embeddings."""


def recipe(**search: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "experiments": {
                "range_test": {},
                "search": {"batch_sizes": [16, 64, 256], "horizon": f"{EXAMPLES} examples", **search},
            },
        }
    )


def believed(
    asked: Recipe, facts: dict[str, Any] | None = None, confirmed: float | None = None, *runs: Trial
) -> Believed:
    """Return what a search believes after a range test at batch 64 whose runs are these."""
    findings = {}
    if confirmed is not None:
        findings["range_test"] = Finding(
            key="range_test",
            title="Range test",
            status="ok",
            sentence="It was ramped.",
            data={"family": [{"batch_size": 64, "confirmation": {"lr": confirmed}}], "bracket": None},
            trial_ids=tuple(run.trial_id for run in runs),
        )
    view = StudyView({run.trial_id: run for run in runs}, lambda _: Trajectory())
    context = Context(recipe=asked, view=view, facts=FACTS if facts is None else facts, findings=findings)
    return Setup.of(asked).believed(context)


def measured(scale: float) -> Trial:
    """Return a run at batch 64 whose gradients have a noise scale."""
    spec = TrialSpec(
        task={}, schedule=ScheduleSpec(name="constant"), peak_lr=1e-3, global_batch_size=64, horizon=100, seed=0
    )
    rng = np.random.default_rng(0)
    steps, count, dimension, examples = 400, 4, 30, 16
    drawn = np.sqrt(1 / dimension) + rng.normal(0, math.sqrt(scale / dimension / examples), (steps, count, dimension))
    one = noise_scale(
        GradientSums(
            step=np.arange(steps),
            count=np.full(steps, count),
            examples=np.full(steps, float(examples)),
            mean_square=np.sum(drawn**2, axis=2).mean(axis=1),
            square_mean=np.sum(drawn.mean(axis=1) ** 2, axis=1),
        )
    )
    missing = NoiseScale.not_measured("no optimizer of Adam's kind")
    run = RunNoiseScale(
        total=one, groups={}, preconditioned=missing, preconditioned_groups={}, course=(one,), notes=()
    ).to_dict()
    record = TrialRecord(
        trial_id=spec.trial_id,
        status="completed",
        final_loss=1.0,
        steps=100,
        measurements={"noise_scale": {"whole": run, "late": run}},
    )
    return Trial(spec, record)


def test_nothing_is_believed_where_nothing_was_measured_or_named() -> None:
    found = believed(recipe())
    assert found.belief == Belief()
    assert found.checks() == []


def test_the_confirmed_lr_is_believed_within_a_factor_of_two() -> None:
    found = believed(recipe(), None, 2e-3)
    # The trials of a range test are at constant LR; a cosine has half of its peak on average.
    assert found.belief.lr == pytest.approx(4e-3, rel=0.06)
    assert (found.belief.lr_factor, found.belief.batch_size, found.belief.best_batch_factor) == (2.0, 64.0, None)
    assert "the best LR at batch 64 near 4" in found.checks()[0].sentence


def test_the_noise_scale_of_its_runs_is_a_wide_prior_of_the_batch_size_and_the_lr_is_carried_there() -> None:
    found, plain = believed(recipe(), None, 2e-3, measured(300.0)), believed(recipe(), None, 2e-3)
    assert found.belief.batch_size == pytest.approx(100, rel=0.1)
    assert found.belief.best_batch_factor == 4.0
    assert found.belief.lr is not None and plain.belief.lr is not None and found.belief.batch_size is not None
    away = math.log(found.belief.batch_size / 64)
    assert found.belief.lr == pytest.approx(plain.belief.lr * math.exp(away / 2))
    assert math.log(found.belief.lr_factor) == pytest.approx(math.hypot(math.log(2), 0.25 * away))


def test_a_named_law_is_believed_at_its_own_batch_and_counts_no_embeddings() -> None:
    found = believed(recipe(prior="step_law"), MODEL)
    tokens = 2048 * EXAMPLES
    assert found.belief.lr == pytest.approx(1.79 * 1e9**-0.713 * tokens**0.307)
    assert found.belief.batch_size == pytest.approx(0.58 * tokens**0.571 / 2048)
    assert (found.belief.lr_factor, found.belief.best_batch_factor) == pytest.approx((3.0, 3.0))
    assert [one.status for one in found.checks()] == ["INFO", "WARNING"]
    assert "tokens 8.19e+07 below 4e+09" in found.checks()[1].sentence


def test_a_law_and_a_range_test_are_weighed_by_their_precision() -> None:
    asked = recipe(prior={"law": "minicpm", "factor": 4})
    found = believed(asked, MODEL, 2e-3)
    # MiniCPM's batch needs the loss; its LR of 0.01 is taken at the middle batch. Variances of (ln 2)^2 and (ln 4)^2.
    measured_lr = believed(recipe(), MODEL, 2e-3).belief.lr
    assert found.belief.lr is not None and measured_lr is not None
    assert math.log(found.belief.lr) == pytest.approx(0.8 * math.log(measured_lr) + 0.2 * math.log(0.01))
    assert math.log(found.belief.lr_factor) == pytest.approx(math.log(2) * math.sqrt(0.8))


def test_a_law_that_contradicts_what_was_measured_is_left_out_and_said() -> None:
    found = believed(recipe(prior={"law": "minicpm", "factor": 2}), MODEL, 1e-5)
    assert found.belief == believed(recipe(), MODEL, 1e-5).belief
    assert any("The published law was left out: LR 0.01" in one.sentence for one in found.checks())


def test_a_law_that_counts_tokens_is_no_prior_where_nothing_says_how_many_there_are() -> None:
    found = believed(recipe(prior="deepseek"), {**MODEL, "sequence_length": None})
    assert found.belief == Belief()
    (told,) = found.checks()
    assert told.status == "WARNING" and "how many tokens an example has" in told.sentence
    stated = believed(recipe(prior={"law": "deepseek", "tokens_per_example": 2048}), {**MODEL, "sequence_length": None})
    compute = 6 * 1e9 * 2048 * EXAMPLES
    assert stated.belief.lr == pytest.approx(0.3118 * compute**-0.125)


def test_a_right_law_spares_trials_and_a_study_says_that_it_was_believed(tmp_path: Path) -> None:
    counts = {}
    for name, asked in (("none", recipe()), ("named", recipe(prior={"law": "minicpm", "tokens_per_example": 64}))):
        plain = asked.model_dump(mode="json")
        plain["experiments"]["range_test"] = None
        study = Study(Recipe.model_validate(plain), StudyFolder(tmp_path / name))
        study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
        finding = next(one for one in read_findings(study.folder) if one.key == "search")
        assert finding.status == "ok"
        counts[name] = [one.sentence for one in finding.checks if one.name == "search prior"]
    assert counts["none"] == []
    assert any("Hu et al. 2024 (MiniCPM)" in sentence for sentence in counts["named"])
