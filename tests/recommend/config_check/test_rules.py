"""Each rule fails the config that breaks it, and only that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lrscale.recommend import Recommendation, recommend
from lrscale.recommend.config_check import RULES
from lrscale.study.finding import Finding, Quantity
from tests.recommend.config_check.measured_study import (
    BEST,
    EDGE,
    FINDINGS,
    GOOD,
    changed,
    checked,
    findings,
    judged,
    recipe,
    view,
)

BROKEN: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # a name -> what is changed, the rule that says so, its status, a part of its sentence
    "LR at the edge": ({"model.init_args.lr": EDGE * 0.02}, "stable_lr", "FAIL", "diverged from 0.16 on"),
    "LR near the edge": ({"model.init_args.lr": 0.12}, "stable_lr", "WARNING", "1.3 x below"),
    "LR that costs": ({"model.init_args.lr": 0.08}, "equivalent_lr", "FAIL", "it costs +4.5 % of the loss"),
    "LR that costs little": ({"model.init_args.lr": 0.026}, "equivalent_lr", "WARNING", "outside of what is as good"),
    "batch beyond the measured": ({"data.init_args.batch_size": 256}, "measured_batch", "WARNING", "Batch 512"),
    "batch far beyond": ({"data.init_args.batch_size": 4096}, "measured_batch", "FAIL", "more than 10 x outside"),
    "no warm-up": ({"model.init_args.warmup_steps": 0}, "warmup", "FAIL", "the trials had 31 at batch 64"),
    "short warm-up": ({"model.init_args.warmup_steps": 20}, "warmup", "WARNING", "Warm-up of 20 steps"),
    "unstated warm-up": ({"model.init_args.warmup_steps": None}, "warmup", "WARNING", "states no warm-up"),
    "another schedule": (
        {"lr_scheduler.class_path": "torch.optim.lr_scheduler.StepLR"},
        "schedule",
        "WARNING",
        "schedule step was not compared",
    ),
    "longer job": ({"trainer.max_steps": 6250}, "horizon", "WARNING", "not scaled to 400,000 (10 x)"),
    "far longer job": ({"trainer.max_steps": 625_000}, "horizon", "FAIL", "too far apart to trust it"),
    "another weight decay": ({"model.init_args.weight_decay": 0.01}, "companions", "WARNING", "is 0.01, not 0.1"),
    "three in two": (
        {"global_batch_size": 65, "trainer.devices": 2, "data.init_args.batch_size": None},
        "layout",
        "FAIL",
        "not a multiple of 2 devices",
    ),
    "parts that form another batch": (
        {"global_batch_size": 64, "trainer.accumulate_grad_batches": 2},
        "layout",
        "FAIL",
        "form a batch of 128, not 64",
    ),
    "a last step of fewer forwards": (
        {"data.init_args.batch_size": 16, "trainer.accumulate_grad_batches": 3},
        "layout",
        "WARNING",
        "its last step accumulates 2",
    ),
    "more than the bound": ({"data.init_args.batch_size": 256, "trainer.devices": 1}, "memory", "FAIL", "above 128"),
    "another optimizer": ({"optimizer.class_path": "torch.optim.SGD"}, "optimizer", "FAIL", "calibrated for AdamW"),
    "another precision": ({"trainer.precision": "16-mixed"}, "precision", "WARNING", "trials in bf16-mixed"),
}


def test_the_recommended_setting_passes_every_rule(tmp_path: Path) -> None:
    result = checked(tmp_path, GOOD)
    assert {one.rule: one.status for one in result.judgements if one.status != "PASS"} == {}
    assert {one.rule for one in result.judgements} == set(RULES) - {"ema"}
    assert result.status == "PASS"


@pytest.mark.parametrize("name", BROKEN)
def test_a_config_that_breaks_a_rule_is_told_so(name: str, tmp_path: Path) -> None:
    changes, rule, status, part = BROKEN[name]
    one = judged(checked(tmp_path, changed(GOOD, changes)), rule)
    assert (one.status, part in one.sentence) == (status, True), one
    assert one.remedy


def test_every_rule_is_broken_by_some_config() -> None:
    # The two others have tests of their own below.
    assert {rule for _, rule, _, _ in BROKEN.values()} == set(RULES) - {"critical_batch", "ema"}


def test_three_faults_give_three_reasons(tmp_path: Path) -> None:
    changes = {"model.init_args.lr": 0.3, "model.init_args.warmup_steps": 1, "optimizer.class_path": "torch.optim.SGD"}
    result = checked(tmp_path, changed(GOOD, changes))
    assert {"stable_lr", "warmup", "optimizer"} <= {one.rule for one in result.having("FAIL")}
    assert len({one.sentence for one in result.having("FAIL")}) == len(result.having("FAIL"))


@pytest.mark.parametrize(
    ("critical", "size", "status"),
    [
        (Quantity(value=40.0, lo=30.0, hi=60.0), 128, "FAIL"),
        (Quantity(value=100.0, lo=50.0, hi=400.0), 128, "WARNING"),
        (Quantity(value=600.0, lo=300.0, hi=None), 128, "PASS"),
        (Quantity(value=None, lo=None, hi=200.0), 128, "PASS"),
    ],
)
def test_a_batch_is_held_against_the_critical_one_and_its_interval(
    critical: Quantity, size: int, status: str, tmp_path: Path
) -> None:
    # The recipe's target keeps the recommendation at batch 64, below what is launched.
    config = changed(GOOD, {"data.init_args.batch_size": size // 2})
    target = recipe(target={"batch_size": 64})
    one = judged(checked(tmp_path, config, found=findings(critical), recipe_=target), "critical_batch")
    assert one.status == status, one.sentence


def test_the_batch_that_the_study_recommends_is_never_too_large(tmp_path: Path) -> None:
    config = changed(GOOD, {"data.init_args.batch_size": 64})
    found = findings(Quantity(value=40.0, lo=30.0, hi=60.0))
    one = judged(checked(tmp_path, config, found=found, recipe_=recipe(target={"batch_size": 128})), "critical_batch")
    assert one.status == "PASS"


def test_a_batch_that_loses_at_equal_examples_is_refused(tmp_path: Path) -> None:
    worse = _with_rows({256: {"loss": 1.08, "loss_lo": 1.07, "loss_hi": 1.09}})
    config = changed(GOOD, {"data.init_args.batch_size": 128})
    one = judged(checked(tmp_path, config, found=worse, recipe_=recipe(target={"batch_size": 64})), "critical_batch")
    assert (one.status, "costs +7.8 % of the loss against batch 64" in one.sentence) == ("FAIL", True), one.sentence
    assert one.remedy == "use a batch of at most 64"


def test_companions_that_the_trials_moved_are_wanted_at_the_batch_of_the_config(tmp_path: Path) -> None:
    moved = findings(companions={"used": "half-life", "reference_batch_size": 16, "decisions": []})
    # At four times the reference batch: beta2 0.95^4, weight decay 4 x 0.1.
    unmoved = judged(checked(tmp_path, GOOD, found=moved), "companions")
    assert unmoved.status == "FAIL"
    assert "model.init_args.weight_decay: 0.4" in (unmoved.remedy or "")
    assert f"betas[1]: {0.95**4:.6g}" in (unmoved.remedy or "")
    right = changed(GOOD, {"model.init_args.weight_decay": 0.4, "optimizer.init_args.betas": [0.9, 0.95**4]})
    assert judged(checked(tmp_path, right, found=moved), "companions").status == "PASS"
    silent = changed(GOOD, {"model.init_args.weight_decay": None, "optimizer.init_args": None})
    assert judged(checked(tmp_path, silent, found=moved), "companions").status == "WARNING"


def test_an_average_of_the_weights_keeps_its_half_life_in_examples(tmp_path: Path) -> None:
    task = {"model": {"class_path": "shop.Net", "init_args": {"ema_decay": 0.999}}}
    own = recipe(task={**task, "trainer": {"precision": "bf16-mixed"}})
    # The task was made for batch 32: at 64 the same half-life takes the square of the decay.
    kept = judged(checked(tmp_path, changed(GOOD, {"model.init_args.ema_decay": 0.999}), recipe_=own), "ema")
    assert (kept.status, kept.remedy) == ("WARNING", "set model.init_args.ema_decay: 0.998001")
    moved = changed(GOOD, {"model.init_args.ema_decay": 0.998})
    assert judged(checked(tmp_path, moved, recipe_=own), "ema").status == "PASS"
    assert judged(checked(tmp_path, moved), "ema").status == "INFO"


def test_the_edge_of_a_smaller_batch_bounds_one_below_it(tmp_path: Path) -> None:
    at_edge = {"model.init_args.lr": EDGE * BEST[16] * 1.01}
    below = checked(tmp_path, changed(GOOD, {**at_edge, "data.init_args.batch_size": 4}))
    assert judged(below, "stable_lr").status == "FAIL"
    # A larger batch may be stable at more than the largest measured one.
    above = checked(tmp_path, changed(GOOD, {"model.init_args.lr": 0.4, "data.init_args.batch_size": 256}))
    assert judged(above, "stable_lr").status == "WARNING"


def test_a_job_with_steps_and_epochs_ends_at_the_first_of_them(tmp_path: Path) -> None:
    # Two epochs of 6,400 examples end long before 625 steps of 64.
    one = judged(checked(tmp_path, changed(GOOD, {"trainer.max_epochs": 2})), "horizon")
    assert (one.status, one.value) == (
        "WARNING",
        "trainer.max_steps 625 steps, trainer.max_epochs 2 epochs = 12,800 examples",
    )
    assert judged(checked(tmp_path, changed(GOOD, {"trainer.max_epochs": 100})), "horizon").status == "PASS"


def test_an_exported_fragment_passes_beside_its_recommendation(tmp_path: Path) -> None:
    answer = recommend(recipe(), view(), FINDINGS)
    assert isinstance(answer, Recommendation)
    answer.save(tmp_path / "recommendation.yaml")
    (tmp_path / "fragment.yaml").write_text(answer.lightning_cli_fragment(str(tmp_path / "recommendation.yaml")))
    (tmp_path / "data.yaml").write_text(
        f"data: {{class_path: shop.Data, init_args: {{batch_size: {answer.per_device_batch_size}}}}}"
    )
    from lrscale.recommend.config_check import check_config

    result = check_config(recipe(), view(), FINDINGS, [tmp_path / "data.yaml", tmp_path / "fragment.yaml"])
    assert [one for one in result.judgements if one.status != "PASS"] == []
    assert judged(result, "equivalent_lr").value == f"ApplyRecommendation {answer.peak_lr:.2g}"


def test_a_study_without_an_answer_fails_every_config(tmp_path: Path) -> None:
    result = checked(tmp_path, GOOD, found=())
    assert result.status == "FAIL"
    assert "Nothing measured the best LR" in result.having("FAIL")[0].sentence


def _with_rows(changes: Mapping[int, Mapping[str, Any]]) -> tuple[Finding, ...]:
    import dataclasses

    (scaling,) = FINDINGS
    rows = [{**row, **changes.get(row["batch_size"], {})} for row in scaling.tables["slices"]]
    return (dataclasses.replace(scaling, tables={**scaling.tables, "slices": tuple(rows)}),)


def test_every_rule_has_its_row_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "handing-over.md").read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"| `{rule}` |" not in page] == []
