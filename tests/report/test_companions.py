"""The card on what moves with the batch size besides the LR."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lrscale.recipe import Recipe
from lrscale.recommend import recommend
from lrscale.report import ReportContext
from lrscale.report.base import Card, make_card
from lrscale.report.sections.companions import CompanionsSection
from lrscale.report.sections.trials import TrialsSection
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import Study
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

OWN = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "decoupled": True}


def context(folder: Path, policies: list[str]) -> ReportContext:
    scaling = {"batch_sizes": [64, 256], "horizon": "10k examples", "companions": policies, "reference_batch_size": 64}
    asked = Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "experiments": {"range_test": False, "scaling": scaling},
        }
    )
    study = Study(asked, StudyFolder(folder))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    stored = StudyView.of(study.folder)
    trials = {
        name: Trial(one.spec, dataclasses.replace(one.record, facts={**one.record.facts, "group_settings": [OWN]}))
        for name, one in stored.trials.items()
    }
    view = StudyView(trials, study.folder.trajectory)
    findings = study.analyse(view)
    answer = recommend(asked, view, findings, batch_size=256)
    return ReportContext.of(study.folder, view=view, findings=findings, recommendation=answer)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> ReportContext:
    return context(tmp_path_factory.mktemp("study"), ["none", "half-life"])


def card(context: ReportContext) -> Card:
    made = make_card(CompanionsSection(), context)
    assert made.status != "error", made.notes
    return made


def test_the_card_shows_the_difference_at_every_batch_size_but_the_reference(compared: ReportContext) -> None:
    made = card(compared)
    frame = made.table("companions").frame()
    assert frame["batch_size"].tolist() == [256] and frame["ratio"].tolist() == [4.0]
    (row,) = frame.to_dict("records")
    assert made.figure("forest").points == {
        "half-life at 256": [row["difference"], row["difference_lo"], row["difference_hi"]]
    }
    assert row["difference_lo"] < -0.02 * 1.386 < row["difference_hi"]
    assert "companions: half-life" in made.finding


def test_the_table_of_trials_tells_the_policies_apart(compared: ReportContext) -> None:
    frame = make_card(TrialsSection(), compared).table("trials").frame()
    assert set(frame["companions"].dropna()) == {"half-life"}
    assert (frame["companions"].notna() <= (frame["batch_size"] == 256)).all()


def test_a_policy_that_was_used_shows_its_values_for_the_recommended_batch(tmp_path: Path) -> None:
    made = card(context(tmp_path, ["half-life"]))
    assert made.facts[0].term == "At batch 256"
    assert made.facts[0].value == "beta1 0.9, beta2 0.8145, eps 1e-08, weight decay 0.4 (half-life)"
    assert made.tables == () and made.figures == ()
    assert made.finding == "Companions half-life moved in every trial from batch 64; nothing was compared."


def test_without_companions_the_card_says_how_to_compare_them(compared: ReportContext) -> None:
    findings = tuple(
        dataclasses.replace(one, data={key: value for key, value in one.data.items() if key != "companions"})
        for one in compared.findings
    )
    made = card(dataclasses.replace(compared, findings=findings))
    assert made.status == "absent" and "companions: [none, half-life]" in made.finding
