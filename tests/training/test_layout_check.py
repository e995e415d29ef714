"""The layout check on real trials of one and two ranks: each cause by its name, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from layout_trials import check
from lrscale_test_trials import Trials

from lrscale.report import ReportContext, render_report
from lrscale.report.base import make_card
from lrscale.report.sections.layout import LayoutSection
from lrscale.store import StudyFolder, StudyView

slow = pytest.mark.slow


def scaled(scale: float) -> dict[str, Any]:
    """Return Trainer arguments for half precision on CPU, whose scaler begins at `scale`."""
    scaler = {"class_path": "torch.amp.GradScaler", "init_args": {"device": "cpu", "init_scale": scale}}
    settings = {"precision": "16-mixed", "device": "cpu", "scaler": scaler}
    return {
        "plugins": [{"class_path": "lightning.pytorch.plugins.precision.MixedPrecision", "init_args": settings}],
    }


CAUSES = [
    pytest.param("Clean", {}, [], id="nothing"),
    pytest.param("Clean", {"trainer": {"gradient_clip_val": 1e-3}}, [], id="clipping", marks=slow),
    pytest.param("Clean", {"trainer": {"precision": "bf16-mixed"}}, [], id="bf16", marks=slow),
    pytest.param("Clean", {"trainer": {"precision": "bf16-true"}}, [], id="bf16 throughout", marks=slow),
    pytest.param("Clean", {"trainer": scaled(2.0**16)}, [], id="half", marks=slow),
    pytest.param("Masked", {"trainer": scaled(2.0**10)}, ["unequal_items"], id="items in half", marks=slow),
    pytest.param("Clean", {"trainer": {"precision": "64-true"}}, [], id="double", marks=slow),
    pytest.param("SingleLoss", {"trainer": {"precision": "64-true"}}, [], id="single loss", marks=slow),
    pytest.param("Clean", {"init": {"optimizer": "sgd"}}, [], id="sgd", marks=slow),
    pytest.param("FrozenNormalised", {}, [], id="frozen normalisation", marks=slow),
    pytest.param("Manual", {}, [], id="manual", marks=slow),
    pytest.param("Clean", {"data": "OwnBlobs", "data_init": {"by_rank": True}}, [], id="shards itself", marks=slow),
    pytest.param("Summed", {}, ["sum_reduction"], id="sum"),
    pytest.param("Summed", {"trainer": {"precision": "bf16-mixed"}}, ["sum_reduction"], id="sum in bf16", marks=slow),
    pytest.param("Manual", {"init": {"reduction": "sum"}}, ["sum_reduction"], id="manual sum", marks=slow),
    pytest.param("NoisySummed", {}, ["sum_reduction", "randomness"], id="noise and sum", marks=slow),
    pytest.param("SummedDropping", {}, ["sum_reduction", "randomness"], id="dropout and sum", marks=slow),
    pytest.param("Normalised", {}, ["batch_statistics"], id="batch normalisation"),
    pytest.param("SummedNormalised", {}, ["batch_statistics", "sum_reduction"], id="both", marks=slow),
    pytest.param("Masked", {}, ["unequal_items"], id="items"),
    pytest.param("Masked", {"trainer": {"precision": "bf16-mixed"}}, ["unequal_items"], id="items in bf16", marks=slow),
    pytest.param("Clean", {"data": "Ragged"}, ["unequal_examples"], id="ragged", marks=slow),
    pytest.param("Tokens", {"data": "Padded"}, ["unequal_items"], id="padded tokens", marks=slow),
    pytest.param("TokensByExample", {"data": "Padded"}, [], id="padded examples", marks=slow),
    pytest.param("Normalised", {"data": "Augmented"}, ["batch_statistics", "randomness"], id="augmented", marks=slow),
    pytest.param("Contrastive", {}, ["across_examples"], id="contrastive", marks=slow),
    pytest.param("Clean", {"data": "OwnBlobs"}, ["identical_batches"], id="own loader"),
    pytest.param("Clean", {"data": "Streamed"}, ["identical_batches"], id="stream", marks=slow),
    pytest.param("Clean", {"data": "OwnOrder"}, ["other_examples"], id="own order", marks=slow),
    pytest.param("Dropping", {}, ["randomness"], id="dropout"),
    pytest.param("DroppingAttention", {}, ["randomness"], id="attention dropout", marks=slow),
    pytest.param("Noisy", {}, ["randomness"], id="noise", marks=slow),
    pytest.param("Clean", {"data": "Augmented"}, ["randomness"], id="augmentation", marks=slow),
    pytest.param("Unused", {}, ["unused_parameters"], id="unused", marks=slow),
    pytest.param(
        "Unused", {"trainer": {"strategy": "ddp_find_unused_parameters_true"}}, [], id="unused and found", marks=slow
    ),
    pytest.param("ByRanks", {}, ["rank_scaling"], id="ranks", marks=slow),
]


@pytest.mark.parametrize(("model", "settings", "causes"), CAUSES)
def test_each_cause_is_named_and_no_other(
    trials: Trials, tmp_path: Path, model: str, settings: dict[str, Any], causes: list[str]
) -> None:
    finding = check(trials, tmp_path / "S", model, **settings)
    assert [cause["kind"] for cause in finding.data["causes"]] == causes, finding.sentence
    (found,) = finding.checks
    expected = {
        (): "PASS",
        ("randomness",): "PASS" if "Dropping" in model else "INFO",
        ("identical_batches",): "FAIL",
        ("unused_parameters",): "FAIL",
    }
    assert found.status == expected.get(tuple(causes), "WARNING")
    assert (found.remedy is None) == (not causes or causes == ["randomness"])
    if not causes:
        trainer = settings.get("trainer", {})
        precision = "bf16-mixed" if "plugins" in trainer else trainer.get("precision", "32-true")
        bound = {"bf16-mixed": 5e-3, "bf16-true": 0.06, "64-true": 1e-14}.get(precision, 1e-6)
        assert finding.numbers["gradient_difference"].value < bound


def test_one_device_compares_accumulation_and_says_so(trials: Trials, tmp_path: Path) -> None:
    finding = check(trials, tmp_path / "S", "Summed", devices=1)
    assert [cause["kind"] for cause in finding.data["causes"]] == ["sum_reduction"]
    assert [row["layout"] for row in finding.tables["layouts"]] == ["1 device x 8", "1 device x 4 x 2 forwards"]
    assert finding.sentence.endswith("On one device only accumulation was compared.")


@slow
def test_a_manual_module_compares_devices_and_says_so(trials: Trials, tmp_path: Path) -> None:
    finding = check(trials, tmp_path / "S", "Manual")
    assert [row["layout"] for row in finding.tables["layouts"]] == ["1 device x 8", "2 devices x 4"]
    assert "only devices were compared" in finding.sentence


@slow
def test_a_check_that_is_there_runs_no_trial_again(trials: Trials, tmp_path: Path) -> None:
    first = check(trials, tmp_path / "S", "Dropping")
    again = check(trials, tmp_path / "S", "Dropping")
    assert again == first


@slow
def test_the_report_draws_what_was_found(trials: Trials, tmp_path: Path) -> None:
    finding = check(trials, tmp_path / "S", "SummedDropping")
    folder = StudyFolder(tmp_path / "S")
    card = make_card(LayoutSection(), ReportContext.of(folder, view=StudyView.of(folder), findings=[finding]))
    assert card.status == "ok"
    assert len(card.figure("differences").points) == 3
    page = render_report(folder, findings=[finding])
    assert "the loss is summed over the batch" in page
    assert "another seed moves the gradient by" in page


@slow
def test_gradients_that_overflow_in_every_step_cannot_be_compared(trials: Trials, tmp_path: Path) -> None:
    finding = check(trials, tmp_path / "S", "Clean", trainer=scaled(2.0**60))
    assert finding.status == "cannot_tell"
    assert finding.sentence == "No step has a gradient that is finite in two layouts."
    assert finding.checks[0].status == "INFO"
