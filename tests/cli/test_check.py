"""A launch config against a real study, as CI of a training repository asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = """
fit:
  model:
    class_path: lrscale.zoo.DigitsMLP
    init_args: {width: 16, depth: 1, optimizer: sgd, lr: 0.4}
  data:
    class_path: lrscale.zoo.Digits
    init_args: {batch_size: 32}
  trainer: {devices: 1, max_steps: 40}
"""
# Wrong in three ways: the LR, the optimizer, and the warm-up.
BAD = """
model:
  class_path: lrscale.zoo.DigitsMLP
  init_args: {width: 16, depth: 1, lr: 1e3}
optimizer: {class_path: torch.optim.AdamW}
data: {class_path: lrscale.zoo.Digits, init_args: {batch_size: 32}}
trainer: {devices: 1, max_steps: 40}
warmup_steps: 0
"""

Run = Callable[..., Any]


def test_a_config_that_is_wrong_in_three_ways_exits_1_with_three_reasons(
    lrscale: Run, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    ended = lrscale(tmp_path, "check", str(finished / "tiny-study"), "bad.yaml", "--json")
    result = json.loads(ended.stdout)
    failed = {one["rule"]: one["sentence"] for one in result["judgements"] if one["status"] == "FAIL"}
    assert (ended.returncode, result["status"]) == (1, "FAIL")
    assert set(failed) == {"equivalent_lr", "optimizer", "warmup"}
    assert len(set(failed.values())) == 3
    told = lrscale(tmp_path, "check", str(finished / "tiny-study"), "bad.yaml")
    assert told.returncode == 1
    assert told.stdout.count("FAIL  ") == 3
    assert "bad.yaml against tiny: 3 failures" in told.stdout


def test_a_config_inside_of_what_was_calibrated_exits_0(lrscale: Run, finished: Path, tmp_path: Path) -> None:
    study = str(finished / "tiny-study")
    recommended = json.loads(_as_json(lrscale(tmp_path, "recommend", study, "--format", "yaml").stdout))
    (tmp_path / "good.yaml").write_text(GOOD.replace("lr: 0.4", f"lr: {recommended['lr']['value']}"))
    before = sorted(path.name for path in (finished / "tiny-study").iterdir())
    ended = lrscale(tmp_path, "check", study, "good.yaml", "--json")
    statuses = {one["rule"]: one["status"] for one in json.loads(ended.stdout)["judgements"]}
    assert (ended.returncode, [rule for rule, status in statuses.items() if status == "FAIL"]) == (0, [])
    # The module warms up by itself or not at all: a config that is silent about it gets a warning.
    assert {rule for rule, status in statuses.items() if status == "WARNING"} == {"warmup"}
    assert sorted(path.name for path in (finished / "tiny-study").iterdir()) == before


def test_wrong_use_exits_2_and_names_the_remedy(lrscale: Run, finished: Path, tmp_path: Path) -> None:
    study = str(finished / "tiny-study")
    (tmp_path / "two.yaml").write_text("a: {lr: 0.1}\nb: {lr: 0.2}\n")
    for arguments, part in (
        (["absent.yaml"], "cannot read the config"),
        (["two.yaml"], "--key lr=a.lr"),
        (["two.yaml", "--key", "lr"], "is not NAME=KEY"),
    ):
        ended = lrscale(tmp_path, "check", study, *arguments)
        assert (ended.returncode, part in ended.stderr) == (2, True), ended.stderr


def _as_json(text: str) -> str:
    from lrscale.recipe.lines import read_yaml

    return json.dumps(read_yaml(text).value)
