"""The plan's table, and what a budget does to a real study from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lrscale.cli.plan import plan_table
from lrscale.recipe import Budget, Price
from lrscale.study import PlannedExperiment
from lrscale.study.budget.allocate import Need

Lrscale = Callable[..., Any]

PLANNED = (
    PlannedExperiment(
        name="range_test",
        question="Where?",
        trials=2,
        trials_expected=16,
        trials_at_most=22,
        examples=51_200,
        seconds=60.0,
        device_seconds=120.0,
        basis="measured",
        importance=10,
        verdict="full",
    ),
    PlannedExperiment(
        name="schedules",
        question="Which?",
        trials=18,
        trials_expected=33,
        trials_at_most=44,
        examples=197_472,
        seconds=600.0,
        device_seconds=1200.0,
        basis="between",
        importance=70,
        verdict="left out",
    ),
    PlannedExperiment(
        name="scaling",
        question="How?",
        trials=3,
        trials_expected=10,
        trials_at_most=15,
        examples=60_000,
        seconds=240.0,
        device_seconds=480.0,
        basis="beyond",
        note="trials that are there: 2",
        importance=20,
        verdict="reduced",
        changes=("seeds 3 -> 2",),
        whole=Need(trials=39, examples=233_168, seconds=700.0),
    ),
)


def test_the_table_of_a_plan_is_this() -> None:
    assert plan_table(PLANNED).splitlines() == [
        "experiment  trials  at most  examples         time  device-hours  time known by",
        "----------  ------  -------  --------  -----------  ------------  ----------------",
        "range_test      16       22    51,200   1 min 00 s        0.0333  measured",
        "schedules       33       44   197,472  10 min 00 s         0.333  between measured",
        "scaling         10       15    60,000   4 min 00 s         0.133  beyond measured",
        "all             26       37   111,200   5 min 00 s         0.167",
        "",
        "range_test: Where?",
        "schedules: Which?",
        "scaling: How? (trials that are there: 2)",
    ]


def test_with_a_price_and_a_budget_the_table_shows_money_and_what_is_answered() -> None:
    table = plan_table(PLANNED, Price.parse("2.5 EUR"), Budget.parse("30 trials"))
    assert table.splitlines()[:6] == [
        "experiment  trials  at most  examples         time  device-hours      cost  time known by     answered",
        "----------  ------  -------  --------  -----------  ------------  --------  ----------------  --------",
        "range_test      16       22    51,200   1 min 00 s        0.0333  0.08 EUR  measured          yes",
        "scaling         10       15    60,000   4 min 00 s         0.133  0.33 EUR  beyond measured   reduced",
        "schedules       33       44   197,472  10 min 00 s         0.333  0.83 EUR  between measured  left out",
        "all             26       37   111,200   5 min 00 s         0.167  0.42 EUR",
    ]


def test_a_budget_of_time_is_answered_before_anything_has_run(tmp_path: Path, lrscale: Lrscale) -> None:
    ended = lrscale(tmp_path, "plan", "byte-gpt", "--budget", "3m", "--price", "2")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^range_test .* stated +(yes|reduced)$", ended.stdout, re.MULTILINE)
    assert re.search(r"^schedules .* stated +left out$", ended.stdout, re.MULTILINE)
    assert "Within the budget of 3m, schedules is left out: it would take" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_a_budget_of_time_answers_is_not_told_before_a_time_is_known(tmp_path: Path, lrscale: Lrscale) -> None:
    # `rules` trains nothing and is answered for free; of all others nothing is known.
    ended = lrscale(tmp_path, "plan", "digits", "--budget", "30m", "--set", "cost.throughput=null")
    assert ended.returncode == 0, ended.stderr
    told = " ".join(ended.stdout.split())
    assert re.search(r"What the budget of 30m answers of .*scaling, .* cannot be told before a time is known\.", told)
    assert "answers every question" not in told


def test_a_budget_that_cannot_be_read_is_refused(tmp_path: Path, lrscale: Lrscale) -> None:
    ended = lrscale(tmp_path, "plan", "digits", "--budget", "soon")
    assert ended.returncode == 2
    assert "cost.budget cannot be read: 'soon' is not a budget" in ended.stderr
    assert "30m" in ended.stderr


@pytest.mark.slow
def test_short_trials_measure_the_time_and_stay_in_the_study(tmp_path: Path, lrscale: Lrscale, tiny: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    ended = lrscale(tmp_path, "plan", "tiny.yaml", "--measure")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^scaling +6 +6 +7,680 .* measured$", ended.stdout, re.MULTILINE), ended.stdout
    records = list((tmp_path / "tiny-study" / "trials").glob("*/record.json"))
    # The recipe trains one batch size; its steps are so short that a longer trial follows the first.
    assert len(records) == 2
    again = lrscale(tmp_path, "plan", "tiny.yaml", "--measure")
    assert again.returncode == 0
    assert list((tmp_path / "tiny-study" / "trials").glob("*/record.json")) == records


@pytest.mark.slow
def test_a_study_stops_at_its_budget_and_goes_on_with_a_larger_one(tmp_path: Path, lrscale: Lrscale, tiny: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    trials = tmp_path / "tiny-study" / "trials"
    first = lrscale(tmp_path, "run", "tiny.yaml", "--budget", "3 trials")
    assert first.returncode == 1, first.stderr
    assert len(list(trials.glob("*/record.json"))) <= 3
    assert "kept out by the budget of 3 trials: " in first.stdout
    assert "no recommendation: Nothing measured the best LR." in first.stdout
    again = lrscale(tmp_path, "run", "tiny.yaml", "--budget", "3 trials")
    assert "nothing runs within the budget" in again.stdout
    second = lrscale(tmp_path, "run", "tiny.yaml", "--budget", "20 trials")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "budget" not in second.stdout


def test_a_budget_below_one_trial_is_refused_and_nothing_runs(tmp_path: Path, lrscale: Lrscale, tiny: str) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    ended = lrscale(tmp_path, "run", "tiny.yaml", "--budget", "1 examples")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-2] == (
        "error: the budget of 1 example is below the cheapest trial of the study, which takes 1 trial, 96 examples"
    )
    assert not list((tmp_path / "tiny-study" / "trials").glob("*"))


@pytest.mark.slow
def test_killed_again_and_again_digits_keeps_its_budget_of_time(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "lrscale", "run", "digits", "--devices", "1", "--budget", "60s"]
    spent = partial(_spent, tmp_path / "digits-study" / "plan.json")
    for seconds in (15.0, 30.0):
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            while spent() < seconds:
                assert run.poll() is None
                time.sleep(0.2)
            os.kill(run.pid, signal.SIGKILL)
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert "by the budget of 1m: " in ended.stdout
    # No trial has started that was expected to end beyond the budget; analyses and the report come after it.
    assert 30.0 < spent() < 75.0


def _spent(plan: Path) -> float:
    entry = json.loads(plan.read_text()).get("spent") if plan.exists() else None
    return 0.0 if entry is None else float(entry["seconds"])
