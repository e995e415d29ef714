"""The commands on a real study."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lrscale.store import StudyFolder
from lrscale.store.lock import is_held

Lrscale = Callable[..., Any]


def kept_records(study: Path) -> dict[str, tuple[float | None, str]]:
    return {name: (record.final_loss, record.status) for name, record in StudyFolder(study).records().items()}


def test_run_ends_with_a_report_and_a_recommendation(finished: Path) -> None:
    out = (finished / "stdout.txt").read_text()
    study = finished / "tiny-study"
    assert re.search(r"^\d+ trials run(, \d+ of them failed)?, 0 reused$", out, re.MULTILINE)
    assert "peak LR" in out
    assert "report          tiny-study/report.html\nrecommendation  tiny-study/recommendation.yaml\n" in out
    assert (study / "report.html").stat().st_size > 10_000
    assert yaml.safe_load((study / "recommendation.yaml").read_text())["global_batch_size"] == 32


def test_progress_goes_to_stderr_in_plain_lines(finished: Path) -> None:
    lines = (finished / "stderr.txt").read_text().splitlines()
    assert lines[0] == "[0:00:00] study tiny in tiny-study"
    assert all(re.match(r"\[\d+:\d\d:\d\d\] ", line) for line in lines), lines
    assert any("scaling 1/" in line and "val_loss" in line and line.endswith(" left") for line in lines)


def test_a_second_run_reuses_everything(finished: Path, lrscale: Lrscale) -> None:
    before = kept_records(finished / "tiny-study")
    ended = lrscale(finished, "run", "tiny.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"nothing is missing: {len(before)} trials reused\n")
    assert kept_records(finished / "tiny-study") == before


def test_one_experiment_alone_reuses_the_same_trials(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "range-test", "tiny.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("nothing is missing: 1 trial reused\n")
    assert (finished / "tiny-study" / "recommendation.yaml").exists()


def test_the_report_of_an_experiment_alone_is_opened_or_its_place_is_said(
    finished: Path, lrscale: Lrscale, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    page = (finished / "tiny-study" / "report.html").resolve().as_uri()
    monkeypatch.setattr("webbrowser.open", lambda address: asked.append(address) or True)
    ended = lrscale(finished, "range-test", "tiny.yaml", "--open")
    assert (ended.returncode, asked) == (0, [page])
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    ended = lrscale(finished, "range-test", "tiny.yaml", "--open")
    assert ended.returncode == 0
    assert f"no browser could be started here; open {page}" in ended.stderr


@pytest.mark.slow
def test_the_browser_that_the_user_names_gets_the_address_of_the_report(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    browser, asked = tmp_path / "browser", tmp_path / "asked"
    browser.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    browser.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-m", "lrscale", "range-test", "tiny.yaml", "--open"],
        cwd=finished,
        env={**environment, "BROWSER": str(browser)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert asked.read_text().splitlines() == [(finished / "tiny-study" / "report.html").resolve().as_uri()]


def test_an_experiment_that_is_off_is_refused(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "throughput", "tiny.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: tiny.yaml has no experiments.throughput\n"
        "hint: add it to the recipe, or use --set experiments.throughput=...\n"
    )


def test_the_plan_of_a_finished_study_is_empty(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "plan", "tiny.yaml")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^all +0 +0 +0 ", ended.stdout, re.MULTILINE)


def test_planning_writes_nothing(tmp_path: Path, lrscale: Lrscale) -> None:
    ended = lrscale(tmp_path, "plan", "digits")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^scaling +[1-9]", ended.stdout, re.MULTILINE)
    assert re.search(r"^scaling .* stated$", ended.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_without_a_missing_trial_no_torch_is_loaded(finished: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from lrscale.cli.app import app\n"
        "for command in ('status tiny-study', 'plan tiny.yaml', 'recommend tiny-study', 'run tiny.yaml'):\n"
        "    try: app(command.split())\n"
        "    except SystemExit as end: assert end.code == 0, command\n"
        "sys.exit(' '.join({'torch', 'pytorch_lightning', 'lightning'} & set(sys.modules)) or 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=finished, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_status_counts_what_is_there(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "status", "tiny-study")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("study tiny in tiny-study: not running\n")
    assert re.search(r"^completed +\d+$", ended.stdout, re.MULTILINE)
    assert "nothing is missing" in ended.stdout
    assert "scaling: " in ended.stdout


def test_a_copied_study_can_be_read_anywhere(finished: Path, tmp_path: Path, lrscale: Lrscale) -> None:
    copy = tmp_path / "from someone"
    shutil.copytree(finished / "tiny-study", copy)
    (copy / "report.html").unlink()
    for command in (["status"], ["recommend"], ["report"]):
        ended = lrscale(tmp_path, *command, str(copy))
        assert ended.returncode == 0, ended.stderr
    assert (copy / "report.html").exists()


def test_lost_trials_are_told_from_missing_ones(finished: Path, tmp_path: Path, lrscale: Lrscale) -> None:
    copy = tmp_path / "tiny-study"
    shutil.copytree(finished / "tiny-study", copy)
    records = kept_records(copy)
    lost = next(name for name, (_, status) in records.items() if status == "completed")
    (copy / "trials" / lost / "record.json").unlink()
    ended = lrscale(tmp_path, "status", "tiny-study")
    assert re.search(r"^lost +1$", ended.stdout, re.MULTILINE), ended.stdout
    assert re.search(r"1 trial missing \(\w+ 1\)", ended.stdout), ended.stdout
    assert "Lost trials were stopped before they ended; the next run starts them anew." in ended.stdout


def test_a_study_that_has_only_begun_has_a_status(finished: Path, tmp_path: Path, lrscale: Lrscale) -> None:
    study = tmp_path / "study"
    study.mkdir()
    plan = json.loads((finished / "tiny-study" / "plan.json").read_text())
    plan["recipe"]["experiments"]["scaling"]["horizon"] = "1 epochs"
    (study / "plan.json").write_text(json.dumps({**plan, "facts": {}, "decisions": []}))
    ended = lrscale(tmp_path, "status", "study")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^none yet +0$", ended.stdout, re.MULTILINE)
    assert "missing" in ended.stdout


def test_a_held_study_is_running_and_refuses_a_second_run(
    finished: Path, tmp_path: Path, lrscale: Lrscale, tiny: str
) -> None:
    copy = tmp_path / "tiny-study"
    shutil.copytree(finished / "tiny-study", copy)
    (tmp_path / "tiny.yaml").write_text(tiny)
    assert not is_held(copy)
    with StudyFolder(copy).locked():
        assert is_held(copy)
        assert "tiny-study: running" in lrscale(tmp_path, "status", "tiny-study").stdout
        ended = lrscale(tmp_path, "run", "tiny.yaml")
    assert ended.returncode == 2
    assert f"is in use by process {os.getpid()}" in ended.stderr
    assert "--study" in ended.stderr
    assert not is_held(copy)


def test_a_changed_task_asks_for_another_folder(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "run", "tiny.yaml", "--set", "task.model.init_args.width=32")
    assert ended.returncode == 2
    assert "task.model.init_args.width: 16 -> 32" in ended.stderr
    assert "hint: give the changed recipe a folder of its own with --study" in ended.stderr


@pytest.mark.parametrize("format_name", ["text", "yaml", "markdown", "cli"])
def test_a_recommendation_is_printed_in_every_format(finished: Path, lrscale: Lrscale, format_name: str) -> None:
    ended = lrscale(finished, "recommend", "tiny-study", "--format", format_name)
    assert (ended.returncode, ended.stderr) == (0, "")
    if format_name in ("yaml", "cli"):
        assert isinstance(yaml.safe_load(ended.stdout), dict)


def test_a_target_that_cannot_be_told_is_exit_code_1(finished: Path, lrscale: Lrscale) -> None:
    ended = lrscale(finished, "recommend", "tiny-study", "--batch-size", "1048576", "--horizon", "50B examples")
    assert ended.returncode in (0, 1), ended.stderr
    assert ("no recommendation: " in ended.stdout) == (ended.returncode == 1)
    assert "extrapolated" in ended.stdout or ended.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "error: there is no study folder nowhere\n"),
        (["report", "."], "error: . is not a study folder: it has no plan.json\n"),
        (["recommend", "tiny-study", "--format", "yml"], "hint: did you mean yaml?\n"),
        (["recommend", "tiny-study", "--horizon", "12"], "error: '12' is not a duration\n"),
        (["run", "digist"], "did you mean digits?"),
        (["run", "tiny.yaml", "--launcher", "slrm"], "error: unknown launcher slrm\n"),
        (["run", "tiny.yaml", "--set", "seed"], "an override is written a.b=c"),
        (["run", "tiny.yaml", "--devices", "3"], "is not a multiple of 3 devices"),
        (["recipes", "digist"], "hint: did you mean digits?\n"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(
    finished: Path, lrscale: Lrscale, arguments: list[str], message: str
) -> None:
    ended = lrscale(finished, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_newer_study_asks_for_an_upgrade(finished: Path, tmp_path: Path, lrscale: Lrscale) -> None:
    copy = tmp_path / "study"
    shutil.copytree(finished / "tiny-study", copy)
    plan = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps({**plan, "schema_version": 99}))
    for command in ("status", "report", "recommend"):
        ended = lrscale(tmp_path, command, "study")
        assert ended.returncode == 2
        assert ended.stderr.endswith("hint: upgrade lrscale\n")


def test_a_copy_without_the_config_of_its_task_is_read_from_its_findings(
    finished: Path, tmp_path: Path, lrscale: Lrscale
) -> None:
    copy = tmp_path / "study"
    shutil.copytree(finished / "tiny-study", copy)
    plan = json.loads((copy / "plan.json").read_text())
    plan["recipe"]["task"] |= {"model": None, "data": None, "config": "gone.yaml", "config_sha256": "0" * 64}
    (copy / "plan.json").write_text(json.dumps(plan))
    ended = lrscale(tmp_path, "status", "study")
    assert "what is missing cannot be told: gone.yaml, which the task names, is not here" in ended.stdout
    ended = lrscale(tmp_path, "recommend", "study")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("peak LR")


@pytest.mark.slow
def test_crashing_trials_are_exit_code_3_and_name_the_cause(tmp_path: Path, lrscale: Lrscale) -> None:
    (tmp_path / "broken_net.py").write_text(
        "from lrscale.zoo.digits import DigitsMLP\n"
        "class Net(DigitsMLP):\n"
        "    def training_step(self, batch, batch_idx):\n"
        "        raise RuntimeError('shape [3, 4] does not fit')\n"
    )
    (tmp_path / "broken.yaml").write_text(
        "name: broken\n"
        "task: {model: {class_path: broken_net.Net}, data: {class_path: lrscale.zoo.Digits}}\n"
        "experiments: {range_test: {seeds: 1, steps: 4, batch_size: 8}}\n"
    )
    ended = lrscale(tmp_path, "run", "broken.yaml")
    assert ended.returncode == 3
    assert "RuntimeError: shape [3, 4] does not fit" in ended.stderr
    assert "hint: its logs are in broken-study/trials/" in ended.stderr


def test_built_in_recipes_are_listed_and_printed(tmp_path: Path, lrscale: Lrscale) -> None:
    assert re.search(r"^digits +\S+", lrscale(tmp_path, "recipes").stdout, re.MULTILINE)
    assert yaml.safe_load(lrscale(tmp_path, "recipes", "digits").stdout)["name"] == "digits"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_study_says_how_to_go_on_and_does(
    finished: Path, tmp_path: Path, lrscale: Lrscale, environment: dict[str, str], tiny: str, number: signal.Signals
) -> None:
    (tmp_path / "tiny.yaml").write_text(tiny)
    with subprocess.Popen(
        [sys.executable, "-m", "lrscale", "run", "tiny.yaml", "--study", "my study", "--set", "seed=0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " scaling 1/" in line:
                break
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "finished trials are kept in my study\n" in rest
    assert rest.endswith("hint: go on with: lrscale run tiny.yaml --study 'my study' --set seed=0\n")
    ended = lrscale(tmp_path, "run", "tiny.yaml", "--study", "my study", "--set", "seed=0")
    assert ended.returncode == 0, ended.stderr
    assert kept_records(tmp_path / "my study") == kept_records(finished / "tiny-study")
