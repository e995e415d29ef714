"""The layout check on modules and data as strangers write them: it names what is there, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from layout_trials import check
from lrscale_test_trials import Trials

pytestmark = pytest.mark.slow

CLEAN_MODELS = (
    "Plain", "LogsItsLR", "TwoRates", "NestedLR", "PartialLR", "TiedLR", "ReturnsOnly", "Silent", "OtherName",
    "CannotBeCopied", "CannotBePickled", "OnceOnly", "UsesItsLogger", "EpochSchedule", "KeepsAverage", "Doubles",
)  # fmt: skip
CLEAN_DATA = (
    "Streamed", "Cached", "Bucketed", "Weighted", "SplitByHand", "Workers", "Batched", "HardCoded",
)  # fmt: skip
OTHERS: dict[tuple[str, str | None], list[str]] = {
    ("OldSpelling", "OldBlobs"): [],
    ("HoldsItsData", None): [],
    ("SeveralLoaders", "InDicts"): [],
    ("Normalised", "Blobs"): ["batch_statistics"],
    ("UnusedBranch", "Blobs"): ["unused_parameters"],
    ("LogLikelihood", "Blobs"): ["unused_parameters"],
    ("Adversarial", "Blobs"): ["unused_parameters"],
    ("Plain", "WithOwnLoader"): ["identical_batches"],
    # Its data set grows with the batch size.
    ("Plain", "LastBatchOfOne"): ["other_examples"],
}
EXPECTED: dict[tuple[str, str | None], list[str]] = {
    **{(model, "Blobs"): [] for model in CLEAN_MODELS},
    **{("Plain", data): [] for data in CLEAN_DATA},
    **OTHERS,
}


def causes(trials: Trials, folder: Path, model: str, data: str | None, trainer: dict[str, Any]) -> list[str]:
    task: dict[str, Any] = {"model": {"class_path": f"stranger_modules.{model}"}, "trainer": trainer}
    if data is not None:
        task["data"] = {"class_path": f"stranger_data.{data}"}
    finding = check(trials, folder, "", task=task, batch=16)
    return [cause["kind"] for cause in finding.data["causes"]]


@pytest.mark.parametrize(("model", "data"), list(EXPECTED), ids=str)
def test_a_strangers_task_is_blamed_for_what_it_does_and_nothing_else(
    trials: Trials, tmp_path: Path, model: str, data: str | None
) -> None:
    assert causes(trials, tmp_path / "S", model, data, {}) == EXPECTED[model, data]


# The adversary is fed with noise.
@pytest.mark.parametrize(
    ("model", "left"), [("UnusedBranch", []), ("LogLikelihood", []), ("Adversarial", ["randomness"])]
)
def test_the_remedy_for_unused_parameters_is_one(trials: Trials, tmp_path: Path, model: str, left: list[str]) -> None:
    trainer = {"strategy": "ddp_find_unused_parameters_true"}
    assert causes(trials, tmp_path / "S", model, "Blobs", trainer) == left
