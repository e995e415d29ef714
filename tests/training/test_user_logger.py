"""A finished trial becomes one run of a Lightning logger, whole and once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import TaskError
from lrscale.store import StudyFolder, StudyView
from lrscale.store.logged import FOLDER, add_event, logger_key, read_logged
from lrscale.testing.synthetic import SyntheticStudy, write_synthetic_study
from lrscale.training.log_trials import Sink
from lrscale.training.user_logger import UserLogger

CSV = "pytorch_lightning.loggers.CSVLogger"
FILES = {"class_path": "lrscale_test_loggers.FileLogger", "init_args": {"folder": "."}}
SMALL = SyntheticStudy(
    batch_sizes=(32,), seeds=1, horizon_examples=1_280, rates=3, schedules=(), throughput=False, crashed=1
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write_synthetic_study(tmp_path / "S", SMALL, findings=False).path
    (path / FOLDER).mkdir()
    # As the process that writes to loggers stands.
    monkeypatch.chdir(path / FOLDER)
    return path


def sink(study: Path, entry: dict[str, Any]) -> tuple[Sink, list[str]]:
    said: list[str] = []
    known = read_logged(study).get(logger_key(entry))
    return Sink(study, "shop", entry, "logger", known, said.append), said


def points(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "point"]


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_the_run_holds_the_trajectory_of_its_trial_and_its_settings(study: Path, package: str) -> None:
    entry = {"class_path": f"{package}.loggers.CSVLogger", "init_args": {}}
    taker, said = sink(study, entry)
    view = StudyView.of(StudyFolder(study))
    for trial in view:
        taker.take(trial, "scaling")
    assert said == []
    assert sorted(path.name for path in (study / FOLDER / "csv" / "shop").iterdir()) == sorted(view.trials)
    completed = [trial for trial in view if trial.record.status == "completed"]
    assert completed
    for trial in completed:
        run = study / FOLDER / "csv" / "shop" / trial.trial_id
        with (run / "metrics.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        trajectory = view.load_trajectory(trial.trial_id)
        for name in ("lr", "train_loss", "val_loss"):
            steps, values = trajectory.points(name)
            logged = {int(row["step"]): float(row[name]) for row in rows if row[name]}
            assert logged == {int(step): float(value) for step, value in zip(steps, values, strict=True)}
        assert float(rows[-1]["final_loss"]) == trial.record.final_loss
        settings = (run / "hparams.yaml").read_text()
        for said_of_it in (
            f"peak_lr: {trial.spec.peak_lr!r}",
            "global_batch_size: 32",
            f"seed: {trial.spec.seed}",
            "experiment: scaling",
            "status: completed",
        ):
            assert said_of_it in settings


def test_a_trial_that_was_written_is_not_written_again(study: Path) -> None:
    trial = next(iter(StudyView.of(StudyFolder(study))))
    for _ in range(2):
        sink(study, FILES)[0].take(trial, "scaling")
    run = study / FOLDER / f"{trial.trial_id}.jsonl"
    steps = [point["step"] for point in points(run)]
    assert len(steps) == len(set(steps)) > 0
    assert [path.name for path in (study / FOLDER).glob("*-2.jsonl")] == []


def test_what_a_kill_has_cut_short_is_left_and_written_whole_beside_it(study: Path) -> None:
    trial = next(iter(StudyView.of(StudyFolder(study))))
    sink(study, FILES)[0].take(trial, "scaling")
    whole = (study / FOLDER / f"{trial.trial_id}.jsonl").read_text()
    (study / FOLDER / "logged.jsonl").unlink()
    add_event(study, FILES, trial.trial_id, "begun")
    with (study / FOLDER / "logged.jsonl").open("a") as stream:
        stream.write('{"torn')
    sink(study, FILES)[0].take(trial, "scaling")
    assert (study / FOLDER / f"{trial.trial_id}.jsonl").read_text() == whole
    assert (study / FOLDER / f"{trial.trial_id}-2.jsonl").read_text() == whole
    assert read_logged(study)[logger_key(FILES)].done == {trial.trial_id}


def test_a_folder_that_another_study_has_written_to_is_left_as_it_is(study: Path, tmp_path: Path) -> None:
    trial = next(iter(StudyView.of(StudyFolder(study))))
    shared = {"class_path": CSV, "init_args": {"save_dir": str(tmp_path / "shared"), "name": "all"}}
    other = tmp_path / "shared" / "all" / trial.trial_id / "metrics.csv"
    other.parent.mkdir(parents=True)
    other.write_text("step,loss\n")
    sink(study, shared)[0].take(trial, "scaling")
    assert other.read_text() == "step,loss\n"
    assert (tmp_path / "shared" / "all" / f"{trial.trial_id}-2" / "metrics.csv").is_file()


def test_a_full_disk_is_told_and_ends_nothing_but_the_logging(study: Path) -> None:
    entry = {"class_path": "lrscale_test_loggers.FullDisk", "init_args": {"folder": "."}}
    taker, said = sink(study, entry)
    trials = [trial for trial in StudyView.of(StudyFolder(study)) if trial.record.steps > 5][:3]
    for trial in trials:
        taker.take(trial, "scaling")
    # After two in a row the third is not tried.
    assert len(said) == 2 and all("No space left on device" in text for text in said)
    assert "the next run of the same command tries it again" in said[1]
    logged = read_logged(study)[logger_key(entry)]
    assert set(logged.failed) == {trial.trial_id for trial in trials[:2]} and not logged.done


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_package.Logger", "there is no module no_such_package"),
        ("lightning.pytorch.loggers.TensorBordLogger", "did you mean TensorBoardLogger"),
        ("lrscale_test_loggers.Nameless", "no argument version, run_name or name"),
    ],
)
def test_a_logger_that_cannot_be_made_is_told_once(study: Path, path: str, words: str) -> None:
    taker, said = sink(study, {"class_path": path, "init_args": {}})
    for trial in StudyView.of(StudyFolder(study)):
        taker.take(trial, "scaling")
    (only,) = said
    assert words in only and "The trials themselves are kept" in only


def test_a_name_for_the_run_is_refused_since_all_trials_would_be_one(study: Path) -> None:
    entry = {"class_path": CSV, "init_args": {"version": "production", "save_dir": "."}}
    _, said = sink(study, entry)
    assert said == ["CSVLogger: version is not kept, since each trial is a run of its own, named after the trial"]


def test_arguments_that_a_logger_does_not_take_are_named() -> None:
    made = UserLogger({"class_path": CSV, "init_args": {"save_dri": "x"}}, "logger[1]", "shop")
    with pytest.raises(TaskError, match=r"logger\[1\].init_args.save_dri: .*did you mean save_dir"):
        made.open("ab")


def test_tensorboard_shows_the_trajectory_and_compares_settings(study: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    entry = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {}}
    taker, said = sink(study, entry)
    view = StudyView.of(StudyFolder(study))
    trial = next(one for one in view if one.record.status == "completed")
    taker.take(trial, "scaling")
    assert said == []
    shown = EventAccumulator(str(study / FOLDER / "tensorboard" / "shop" / trial.trial_id))
    shown.Reload()
    for name in ("lr", "train_loss", "val_loss"):
        steps, values = view.load_trajectory(trial.trial_id).points(name)
        points = {point.step: point.value for point in shown.Scalars(name)}
        # TensorBoard keeps single precision.
        assert points == pytest.approx(dict(zip(steps.astype(int).tolist(), values.tolist(), strict=True)), rel=1e-6)
    assert shown.Scalars("final_loss")[0].value == pytest.approx(trial.record.final_loss, rel=1e-6)
    assert "_hparams_/session_start_info" in shown.summary_metadata
