"""What a recommendation says of betas, eps and weight decay, and what a training job does with it."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lrscale.callbacks import ApplyRecommendation
from lrscale.recipe import Recipe
from lrscale.recommend import Recommendation, recommend
from lrscale.recommend.companions import CompanionValues, RecommendedCompanions
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.study import Study
from lrscale.study.progress import SilentProgress
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher

OWN = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "decoupled": True}


def recommended(folder: Path, companions: Any, batch_size: int) -> Recommendation:
    asked = Recipe.model_validate(
        {
            "name": "synthetic",
            "task": SyntheticStudy().task,
            "experiments": {
                "range_test": False,
                "scaling": {
                    "batch_sizes": [64, 256],
                    "horizon": "20k examples",
                    "companions": companions,
                    "reference_batch_size": 64,
                },
            },
        }
    )
    study = Study(asked, StudyFolder(folder))
    study.run(SyntheticLauncher(SyntheticStudy()), progress=SilentProgress())
    stored = StudyView.of(study.folder)
    facts = {
        name: Trial(one.spec, dataclasses.replace(one.record, facts={**one.record.facts, "group_settings": [OWN]}))
        for name, one in stored.trials.items()
    }
    view = StudyView(facts, study.folder.trajectory)
    answer = recommend(asked, view, study.analyse(view), batch_size=batch_size)
    assert isinstance(answer, Recommendation)
    return answer


def test_a_policy_that_was_used_is_recommended_with_its_values(tmp_path: Path) -> None:
    one = recommended(tmp_path, "half-life", 256)
    assert one.companions == RecommendedCompanions(
        policy="half-life",
        reference_batch_size=64,
        groups=(CompanionValues(beta1=0.9, beta2=0.95**4, eps=1e-8, weight_decay=0.4),),
    )
    words = "Companions half-life were used in every trial; from batch 64 to 256 they give beta1 0.9, beta2 0.814506"
    assert any(reason.startswith(words) for reason in one.reasons)
    assert "| companions | half-life: beta1 0.9" in one.markdown()
    assert "companions.settings_of" in one.loop_snippet()


def test_a_policy_that_was_only_compared_is_named_and_not_recommended(tmp_path: Path) -> None:
    one = recommended(tmp_path, ["none", "half-life"], 256)
    assert one.companions is None
    assert any("adopt them with experiments.scaling.companions: half-life" in reason for reason in one.reasons)
    assert "companions" not in one.loop_snippet()


class Job(pl.LightningModule):
    """An ordinary job with two parameter groups; notes their settings at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
        self.seen: list[list[dict[str, Any]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        del batch_idx
        return self.second(self.first(batch[0])).square().mean()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.seen.append(
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [
            {"params": self.first.parameters()},
            {"params": self.second.parameters(), "lr": 0.01, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), weight_decay=0.1)


def train(one: Recommendation) -> list[list[dict[str, Any]]]:
    data = torch.utils.data.TensorDataset(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)))
    trainer = pl.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ApplyRecommendation(one)],
    )
    job = Job()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, message="(?!the job has)")
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        trainer.fit(job, torch.utils.data.DataLoader(data, batch_size=16))
    return job.seen


def test_a_job_gets_the_recommended_values_once_and_keeps_its_ratios(tmp_path: Path) -> None:
    one = recommended(tmp_path, "half-life", 256)
    assert one.companions is not None
    values = one.companions.groups[0]
    both = dataclasses.replace(one.companions, groups=(values, dataclasses.replace(values, weight_decay=0.0)))
    for first, second in train(dataclasses.replace(one, companions=both)):
        assert first["betas"] == second["betas"] == pytest.approx((0.9, 0.95**4))
        assert (first["weight_decay"], second["weight_decay"]) == (pytest.approx(0.4), 0.0)
        assert second["lr"] == pytest.approx(first["lr"] / 10)


def test_a_job_of_another_make_is_left_alone_and_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the job has 2 parameter groups and the study had 1"):
        seen = train(recommended(tmp_path, "half-life", 256))
    assert seen[0][0]["betas"] == (0.9, 0.95)


def test_without_companions_a_job_keeps_its_own_settings(tmp_path: Path) -> None:
    seen = train(recommended(tmp_path, ["none", "half-life"], 256))
    assert [group["betas"] for group in seen[0]] == [(0.9, 0.95)] * 2
