"""A study of three batch sizes with round numbers, and configs that are launched against it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrscale.laws import LRSliceFit, fit_lr_slice, fit_optimal_lr
from lrscale.recipe import Recipe
from lrscale.recipe.lines import dump_yaml
from lrscale.recommend.config_check import ConfigCheck, Judgement, check_config
from lrscale.store import ScheduleSpec, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study.finding import Finding, Quantity
from lrscale.units import Layout

EXAMPLES = 40_000
BEST = {16: 0.01, 64: 0.02, 256: 0.04}
"""Best peak LR by batch size; the square-root law."""
LEVEL = {16: 1.05, 64: 1.0, 256: 1.0005}
EDGE = 8.0
"""The LR that diverges, over the best one."""
GOOD: dict[str, Any] = {
    "model": {"class_path": "shop.Net", "init_args": {"lr": 0.02, "weight_decay": 0.1, "warmup_steps": 31}},
    "data": {"class_path": "shop.Data", "init_args": {"batch_size": 32}},
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"betas": [0.9, 0.95]}},
    "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.CosineAnnealingLR", "init_args": {"T_max": 625}},
    "trainer": {"devices": 2, "max_steps": 625, "precision": "bf16-mixed"},
}
"""What the study recommends, as a LightningCLI config."""
OWN = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "decoupled": True}


def recipe(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "name": "demo",
        "task": {
            "model": {"class_path": "shop.Net"},
            "data": {"class_path": "shop.Data"},
            "trainer": {"precision": "bf16-mixed"},
        },
        "layout": {"devices": 2, "max_per_device_batch_size": 128},
        "experiments": {"scaling": {"batch_sizes": [16, 64, 256], "horizon": "40k examples"}},
    }
    return Recipe.model_validate({**plain, **changes})


def trial(batch: int, lr: float, seed: int, loss: float, status: str = "completed") -> Trial:
    steps = EXAMPLES // batch
    spec = TrialSpec(
        task={},
        schedule=ScheduleSpec(name="cosine", warmup_steps=round(0.05 * steps)),
        peak_lr=lr,
        global_batch_size=batch,
        horizon=steps,
        seed=seed,
    )
    return Trial(
        spec,
        TrialRecord(
            trial_id=spec.trial_id,
            status=status,  # type: ignore[arg-type]  # a status
            final_loss=loss if status == "completed" else None,
            steps=steps,
            layout=Layout(per_device_batch_size=batch // 2, devices=2),
            facts={
                "optimizers": ["AdamW"],
                "training_examples": 6_400,
                "group_settings": [OWN],
                "reference_lr": 0.02,
                "lr_home": "",
                "own_batch_size": 32,
            },
        ),
    )


def loss_at(batch: int, lr: float, seed: int = 0) -> float:
    away = lr / BEST[batch]
    return LEVEL[batch] + 0.02 * (away + 1 / away - 2) + 0.002 * seed + 1e-4 * ((round(1000 * lr) * 7 + seed) % 5 - 2)


LRS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)
TRIALS = [
    trial(batch, best * step, seed, loss_at(batch, best * step, seed))
    for batch, best in BEST.items()
    for step in LRS
    for seed in (0, 1, 2)
]
TRIALS += [trial(batch, best * EDGE, seed, 0.0, "diverged") for batch, best in BEST.items() for seed in (0, 1, 2)]


@functools.cache
def slices() -> dict[int, LRSliceFit]:
    fits = {}
    for batch in BEST:
        own = [one for one in TRIALS if one.spec.global_batch_size == batch]
        fits[batch] = fit_lr_slice(
            [one.spec.peak_lr for one in own],
            [one.record.final_loss for one in own],
            seed=[one.spec.seed for one in own],
            resamples=200,
        )
    return fits


@functools.cache
def law() -> dict[str, Any]:
    return fit_optimal_lr(list(BEST), list(slices().values())).to_dict()


def findings(critical: Quantity | None = None, companions: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    rows, cells = [], []
    for batch, fit in slices().items():
        plain = fit.to_dict()
        rows.append(
            {
                "batch_size": batch,
                "best_lr": plain["best_lr"],
                "lo": plain["interval"]["lo"],
                "hi": plain["interval"]["hi"],
                "equivalent_lo": plain["equivalence"][0],
                "equivalent_hi": plain["equivalence"][1],
                "loss": plain["min_loss"],
                "loss_lo": plain["min_loss_interval"]["lo"],
                "loss_hi": plain["min_loss_interval"]["hi"],
                "diverged_above": plain["diverged_above"],
                "trials": fit.n_runs,
                "status": plain["status"],
            }
        )
        cells.append({"batch_size": batch, "slice": plain})
    data = {
        "horizon_examples": EXAMPLES,
        "schedule": "cosine",
        "monitor": "val_loss",
        "cells": cells,
        "law": law(),
        **({} if companions is None else {"companions": companions}),
    }
    scaling = Finding(
        key="scaling",
        title="Scaling",
        status="ok",
        sentence="It was measured.",
        numbers={} if critical is None else {"critical_batch": critical},
        tables={"slices": tuple(rows), "laws": ()},
        data=data,
        trial_ids=tuple(one.trial_id for one in TRIALS),
    )
    return (scaling,)


FINDINGS = findings()


def view() -> StudyView:
    return StudyView({one.trial_id: one for one in TRIALS}, lambda _: Trajectory())


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with dotted keys set; None removes one."""
    copy = {key: changed(value, {}) if isinstance(value, Mapping) else value for key, value in config.items()}
    for key, value in changes.items():
        *way, last = key.split(".")
        node: Any = copy
        for name in way:
            node = node.setdefault(name, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return copy


def checked(
    folder: Path,
    config: Mapping[str, Any],
    *,
    found: Sequence[Finding] = FINDINGS,
    recipe_: Recipe | None = None,
    keys: Mapping[str, str] | None = None,
) -> ConfigCheck:
    path = folder / "config.yaml"
    path.write_text(dump_yaml(dict(config)))
    return check_config(recipe_ or recipe(), view(), found, [path], keys)


def judged(result: ConfigCheck, rule: str) -> Judgement:
    return next(one for one in result.judgements if one.rule == rule)
