"""What ending trials of a sweep early would have saved, read off a study whose trials are complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from lrscale.recipe import Recipe
from lrscale.report import ReportContext
from lrscale.report.base import make_card
from lrscale.report.sections.slices import SlicesSection
from lrscale.stoppers import STOPPERS
from lrscale.store import ScheduleSpec, StudyFolder, StudyView, TrialSpec
from lrscale.study import Study
from lrscale.study.decayed import decayed_shares
from lrscale.study.finding import Finding
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

LRS = [0.01 * 2.0**step for step in range(-5, 6)]


def sweep_of(learning_rates: list[float], **experiments: Any) -> Recipe:
    scaling = {"batch_sizes": [256], "horizon": "40960 examples", "seeds": 1, "learning_rates": learning_rates}
    asked = {"range_test": False, "equivalence": False, "scaling": scaling, **experiments}
    return Recipe.model_validate({"name": "sweep", "task": SyntheticStudy().task, "experiments": asked})


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finding, StudyView]:
    path = tmp_path_factory.mktemp("study")
    asked = sweep_of(sorted(LRS, key=lambda lr: abs(lr - 0.01)))
    study = Study(asked, StudyFolder(path))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    view = StudyView.of(StudyFolder(path))
    return study.analyse(view)[0], view


def test_every_rule_has_a_row_and_the_aware_one_leaves_the_slice(swept: tuple[Finding, StudyView]) -> None:
    rows = {row["rule"]: row for row in swept[0].tables["stopping"]}
    assert set(rows) == set(STOPPERS)
    own = rows["survivors"]
    assert own["stopped"] > 0 and own["saved"] > 0
    assert (own["regret"], own["slices"], own["slices_left"]) == (0.0, 1, 1)
    assert all(0 <= row["share_saved"] < 1 for row in rows.values())
    assert own["share_saved"] == pytest.approx(own["saved"] / own["examples"])


def test_the_finding_says_what_was_saved_and_what_it_costs(swept: tuple[Finding, StudyView]) -> None:
    (check,) = [check for check in swept[0].checks if check.name == "early stopping"]
    own = next(row for row in swept[0].tables["stopping"] if row["rule"] == "survivors")
    assert check.status == "INFO"
    assert f"{own['stopped']} of {own['trials']} trials would have saved" in check.sentence
    assert "at a regret of 0 % and with 1 of 1 slices left" in check.sentence
    card = make_card(SlicesSection(), ReportContext(plan={}, view=swept[1], findings=(swept[0],)))
    assert [row["name"] for row in card.table("stopping").rows] == [name.replace("_", " ") for name in STOPPERS]


def spec(name: str, **settings: object) -> TrialSpec:
    return TrialSpec(
        task={},
        schedule=ScheduleSpec(name=name, settings=settings),
        peak_lr=0.1,
        global_batch_size=8,
        horizon=1000,
        seed=0,
    )


@pytest.mark.parametrize(
    ("trial", "shares"),
    [
        (spec("linear"), {2: 0.2, 5: 0.5, 10: 1.0}),
        (spec("cosine"), {2: 0.095, 5: 0.5, 10: 1.0}),
        # A floor is where the decay ends, and not zero.
        (spec("linear", final_factor=0.5), {5: 0.5, 10: 1.0}),
        # Under a constant LR, and one that nobody knows beforehand, the share of the horizon stands for it.
        (spec("constant"), {2: 0.2, 10: 1.0}),
        (spec("module"), {2: 0.2, 10: 1.0}),
        # One cycle rises for 30 % of its length.
        (spec("one_cycle"), {2: 0.0, 3: 0.0, 10: 1.0}),
    ],
)
def test_the_decay_is_the_fall_of_the_lr(trial: TrialSpec, shares: dict[int, float]) -> None:
    found = decayed_shares(trial, 10)
    assert {place: found[place] for place in shares} == pytest.approx(shares, abs=0.02)


def grid(path: Path, **scaling: object) -> tuple[Finding, StudyView, Study]:
    asked = Recipe.model_validate(
        {
            "name": "grid",
            "task": SyntheticStudy().task,
            "experiments": {
                "range_test": False,
                "equivalence": False,
                "scaling": {
                    "batch_sizes": [256],
                    "horizon": "40960 examples",
                    "seeds": 3,
                    "learning_rates": LRS,
                    **scaling,
                },
            },
        }
    )
    study = Study(asked, StudyFolder(path))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    view = StudyView.of(StudyFolder(path))
    return study.analyse(view)[0], view, study


def test_a_grid_whose_replicates_end_early_finds_the_same_best_lr(tmp_path: Path) -> None:
    whole, _, _ = grid(tmp_path / "whole")
    fewer, view, study = grid(tmp_path / "fewer", stopper="survivors")
    ended = [trial for trial in view if trial.record.ended_by_stopper is not None]
    assert ended and all(trial.spec.seed > 0 for trial in ended)
    assert len(list(view)) == 3 * len(LRS)
    best, other = whole.numbers["best_lr"], fewer.numbers["best_lr"]
    assert best.value is not None and other.value is not None and other.lo is not None and other.hi is not None
    assert other.lo < best.value < other.hi
    assert other.value == pytest.approx(best.value, rel=0.1)
    # Two LRs on each side of the best one are complete in every replicate.
    for seed in range(3):
        complete = [one.spec.peak_lr for one in view if one.spec.seed == seed and one.record.status == "completed"]
        assert sum(lr < other.value for lr in complete) >= 2 and sum(lr > other.value for lr in complete) >= 2
    (check,) = [check for check in fewer.checks if check.name == "early stopping"]
    assert check.sentence.startswith(f"{len(ended)} of {3 * len(LRS)} trials were ended early by survivors")
    assert not any("ended as stopped" in check.sentence for check in fewer.checks)
    # Asked again, the study wants the same trials and runs none.
    launcher = SyntheticLauncher(SyntheticStudy())
    study.run(launcher, progress=SilentProgress())
    assert launcher.ran == []


def test_a_killed_grid_goes_on_with_the_same_bounds(tmp_path: Path) -> None:
    _, undisturbed, _ = grid(tmp_path / "whole", stopper="survivors")
    asked = Recipe.model_validate(StudyFolder(tmp_path / "whole").read_plan()["recipe"])
    folder = StudyFolder(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        Study(asked, folder).run(SyntheticLauncher(SyntheticStudy(), stop_after=20), progress=SilentProgress())
    Study(asked, folder).run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    assert set(StudyView.of(folder).trials) == set(undisturbed.trials)


def test_a_sweep_that_searches_its_lrs_takes_no_stopper() -> None:
    scaling = {"batch_sizes": [64], "horizon": "10k examples", "stopper": "survivors"}
    with pytest.raises(ValueError, match="searches its LRs, few of which lie far from the best"):
        Recipe.model_validate(
            {"name": "x", "task": {"model": {"class_path": "m.N"}}, "experiments": {"scaling": scaling}}
        )


def test_a_search_that_ends_trials_early_says_what_its_rule_costs_in_the_sweep(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = {"trials": 16, "confirm": False, "engine": {"name": "optuna", "pruner": "hyperband"}}
    asked = sweep_of(LRS, search=search)
    study = Study(asked, StudyFolder(tmp_path))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    sweep, search = study.analyse(StudyView.of(StudyFolder(tmp_path)))
    row = next(row for row in sweep.tables["stopping"] if row["rule"] == "hyperband")
    (check,) = [check for check in search.checks if check.name == "cost of stopping"]
    assert f"hyperband would have ended {row['stopped']} of {row['trials']} trials" in check.sentence


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_decay_begins_behind_the_warmup(shape: Literal["linear", "cosine"]) -> None:
    schedule = ScheduleSpec(name="linear", warmup_steps=500, warmup_shape=shape)
    spec = TrialSpec(task={}, schedule=schedule, peak_lr=0.1, global_batch_size=8, horizon=1000, seed=0)
    shares = decayed_shares(spec, 10)
    assert [shares[place] for place in (1, 3, 5)] == pytest.approx([0, 0, 0], abs=0.01)
    assert [shares[place] for place in (6, 8, 10)] == pytest.approx([0.2, 0.6, 1.0], abs=0.01)
