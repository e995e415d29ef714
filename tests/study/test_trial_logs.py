"""A study's trials reach the loggers of its recipe, each once, and no logger reaches the study."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lrscale.recipe import Recipe, parse_recipe, recipe_json_schema
from lrscale.report import ReportContext
from lrscale.report.checks import run_checks
from lrscale.store import StudyFolder, StudyView, Trial
from lrscale.store.logged import FOLDER, add_event, read_logged
from lrscale.study import Study
from lrscale.study.trial_logs import TrialLogs
from lrscale.testing.synthetic import SyntheticStudy
from lrscale.testing.synthetic_launcher import SyntheticLauncher
from tests.study.notes import Notes

LOGGERS = Path(__file__).resolve().parent.parent / "training"
CSV = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {}}


def recipe(*loggers: dict[str, Any]) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "shop",
            "task": {**SyntheticStudy().task, "import_paths": [str(LOGGERS)]},
            "logger": list(loggers),
            "experiments": {
                "range_test": {"seeds": 1, "steps": 20, "confirm": False},
                "scaling": {"batch_sizes": [32], "horizon": "640 examples", "seeds": 1},
                "throughput": {},
                "equivalence": None,
            },
        }
    )


def run(folder: Path, asked: Recipe, launcher: SyntheticLauncher | None = None) -> list[str]:
    notes = Notes()
    Study(asked, StudyFolder(folder)).run(launcher or SyntheticLauncher(SyntheticStudy()), progress=notes)
    return notes.said


def points(folder: Path) -> Counter[tuple[str, str]]:
    """Return how often each step of each trial is in the CSV logger."""
    found: Counter[tuple[str, str]] = Counter()
    for path in (folder / FOLDER / "csv" / "shop").glob("*/metrics.csv"):
        with path.open() as stream:
            found.update((path.parent.name, row["step"]) for row in csv.DictReader(stream))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A study that was interrupted, and went on."""
    folder = tmp_path_factory.mktemp("logged") / "S"
    with pytest.raises(KeyboardInterrupt):
        run(folder, recipe(CSV), SyntheticLauncher(SyntheticStudy(), stop_after=4))
    return folder, run(folder, recipe(CSV))


def test_every_trial_is_logged_and_an_interruption_doubles_no_point(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    view = StudyView.of(StudyFolder(folder))
    logged = points(folder)
    assert {run for run, _ in logged} == set(view.trials)
    assert set(logged.values()) == {1}
    assert len(logged) == sum(len(set(view.load_trajectory(name)["step"])) for name in view.trials)


def test_the_run_says_which_experiment_asked_for_the_trial(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    asked_first: dict[str, str] = {}
    for decision in StudyFolder(folder).read_plan()["decisions"]:
        for trial_id in decision.get("trials", ()):
            asked_first.setdefault(trial_id, decision["experiment"])
    for decision in StudyFolder(folder).read_plan()["decisions"]:
        for trial_id in decision.get("trials", ()):
            settings = (folder / FOLDER / "csv" / "shop" / trial_id / "hparams.yaml").read_text()
            assert f"experiment: {asked_first[trial_id]}\n" in settings and "study: shop\n" in settings


def test_a_logger_changes_no_trial(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    run(tmp_path / "S", recipe())
    with_logger, without = StudyView.of(StudyFolder(finished[0])), StudyView.of(StudyFolder(tmp_path / "S"))
    assert with_logger.trials == without.trials
    assert not (tmp_path / "S" / FOLDER).exists()


def test_what_is_logged_already_starts_no_process(
    finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrialLogs, "_start", lambda self: pytest.fail("a process was started"))
    assert run(finished[0], recipe(CSV)) == []


@pytest.mark.slow
def test_a_logger_named_later_gets_the_earlier_trials_and_one_that_dies_loses_none(
    finished: tuple[Path, list[str]],
) -> None:
    folder, _ = finished
    before = StudyView.of(StudyFolder(folder)).trials
    said = run(folder, recipe(CSV, {"class_path": "lrscale_test_loggers.Dies", "init_args": {"folder": "."}}))
    assert StudyView.of(StudyFolder(folder)).trials == before
    told = next(text for text in said if "are not logged" in text)
    assert f"{len(before)} trials" in told and "the library of this logger has crashed" in told
    # Another recipe, and they are there; the one before keeps its own.
    other = {"class_path": "lrscale_test_loggers.FileLogger", "init_args": {"folder": "."}}
    assert not [text for text in run(folder, recipe(CSV, other)) if "waiting" not in text]
    assert {path.stem for path in (folder / FOLDER).glob("*.jsonl")} >= set(before)
    assert set(points(folder).values()) == {1}


def test_the_report_says_what_a_logger_has_not_got(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "S")
    folder, full = StudyFolder(tmp_path / "S"), {"class_path": "lrscale_test_loggers.FullDisk", "init_args": {}}
    trials = StudyView.of(folder)
    folder.write_plan({**folder.read_plan(), "recipe": recipe(CSV, full).dump()})
    for trial_id in list(trials.trials)[:2]:
        add_event(folder.path, full, trial_id, "failed", "[Errno 28] No space left on device")
    (check,) = [one for one in run_checks(ReportContext.of(folder, view=trials)) if one.name == "loggers"]
    number = len(trials.trials)
    assert (check.status, check.sentence) == (
        "WARNING",
        f"CSVLogger has {number} of {number} trials. FullDisk has 0 of {number} trials; it said: [Errno 28] No space "
        "left on device.",
    )
    # A logger that the recipe names no more is not missed.
    folder.write_plan({**folder.read_plan(), "recipe": recipe(CSV).dump()})
    (check,) = [one for one in run_checks(ReportContext.of(folder, view=trials)) if one.name == "loggers"]
    assert (check.status, check.remedy) == ("INFO", None)


@pytest.fixture
def told(finished: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> tuple[TrialLogs, Trial, list[str]]:
    """Logs, a trial to tell them of, and the trials that they ask their process for."""
    asked: list[str] = []
    monkeypatch.setattr(TrialLogs, "_ask", lambda self, trial_id, experiment: asked.append(trial_id))
    folder = StudyFolder(finished[0])
    return TrialLogs(recipe(CSV), folder, Notes()), next(iter(StudyView.of(folder))), asked


def test_a_trial_that_will_run_again_is_logged_when_it_is_over(told: tuple[TrialLogs, Trial, list[str]]) -> None:
    logs, trial, asked = told
    logs.add(Trial(trial.spec, dataclasses.replace(trial.record, status="crashed", retryable=True)), "scaling")
    assert asked == []
    logs.add(trial, "scaling")
    assert asked == [trial.trial_id]


def test_nothing_is_logged_while_trials_are_timed(told: tuple[TrialLogs, Trial, list[str]]) -> None:
    logs, trial, asked = told
    with logs.held():
        logs.add(trial, "throughput")
        assert asked == []
    assert asked == [trial.trial_id]


def test_a_process_whose_driver_is_killed_ends_after_the_trial_in_hand(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    process = subprocess.Popen(
        [sys.executable, "-m", "lrscale.training.log_trials"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        first = {"study": str(folder.resolve()), "name": "shop", "loggers": [CSV], "paths": []}
        print(json.dumps(first), file=process.stdin, flush=True)
        assert json.loads(process.stdout.readline()) == {"ready": True}
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def test_one_logger_is_written_as_in_a_lightning_cli_config() -> None:
    text = "name: shop\ntask: {model: {class_path: shop.Net}}\nlogger: {class_path: shop.loggers.Mine}\n"
    one = parse_recipe(text)
    assert [entry.class_path for entry in one.logger] == ["shop.loggers.Mine"]
    assert Recipe.model_validate(one.dump()) == one
    assert parse_recipe("name: shop\ntask: {model: {class_path: shop.Net}}\nlogger: false\n").logger == ()
    schema = recipe_json_schema()["properties"]["logger"]
    assert [sorted(form) for form in schema["anyOf"]] == [["$ref"], ["items", "type"]]


def test_loggers_are_no_change_of_the_questions(tmp_path: Path) -> None:
    run(tmp_path / "S", recipe())
    failing = {"class_path": "no_such_package.Logger", "init_args": {}}
    notes = Notes()
    Study(recipe(failing), StudyFolder(tmp_path / "S")).run(SyntheticLauncher(SyntheticStudy()), progress=notes)
    (only,) = notes.said
    assert "there is no module no_such_package" in only
    assert read_logged(tmp_path / "S").popitem()[1].failed.keys() == {""}
