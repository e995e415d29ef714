"""What goes beside the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrscale.cli import report as reporting
from lrscale.store import StudyFolder

Run = Callable[..., Any]


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "tiny-study", tmp_path / "study"))


def test_figures_tables_and_markdown_come_on_request(lrscale: Run, study: Path, tmp_path: Path) -> None:
    ended = lrscale(tmp_path, "report", "study", "--markdown", "--figures", "figures", "--tables", "tables")
    assert ended.returncode == 0, ended.stderr
    assert "### Findings" in ended.stdout
    assert (tmp_path / "figures" / "recommendation-slice.svg").is_file()
    assert (tmp_path / "figures" / "recommendation-slice.png").is_file()
    assert (tmp_path / "tables" / "trials-trials.parquet").is_file()
    assert (tmp_path / "tables" / "trials-trials.csv").read_text().count("\n") == 1 + len(StudyFolder(study).records())


def test_a_watched_report_follows_the_trials_until_the_study_ends(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = sorted(study.glob("trials/*/record.json"))
    late = records[-1].read_bytes()
    records[-1].unlink()
    (study / "report.html").unlink()
    recommendation = (study / "recommendation.yaml").read_bytes()
    running = iter([True, True, True, False])
    monkeypatch.setattr(reporting, "is_held", lambda _: next(running))
    looks: list[bool] = []

    def wait(seconds: float) -> None:
        assert seconds == reporting.FASTEST
        looks.append('http-equiv="refresh"' in (study / "report.html").read_text())
        if len(looks) == 2:
            records[-1].write_bytes(late)

    assert reporting.watch_report(study, every=0.1, open_in_browser=False, sleep=wait) == 0
    lines = capsys.readouterr().out.splitlines()
    # Once at the start, once when a trial had ended, once when the study had.
    assert [line.split(": ")[-1] for line in lines] == [f"{len(records) - 1} trials", *[f"{len(records)} trials"] * 2]
    assert looks == [True, True, True]
    assert 'http-equiv="refresh"' not in (study / "report.html").read_text()
    assert (study / "recommendation.yaml").read_bytes() == recommendation


def test_studies_of_a_folder_stand_on_one_page(lrscale: Run, study: Path, tmp_path: Path) -> None:
    ended = lrscale(tmp_path, "index", ".")
    assert (ended.returncode, ended.stdout.strip()) == (0, "index.html: 1 study")
    page = (tmp_path / "index.html").read_text()
    assert 'href="./study/report.html"' in page
    assert "peak LR 0." in page
    assert lrscale(tmp_path, "index", ".").returncode == 0
    (tmp_path / "index.html").write_text("my own")
    assert lrscale(tmp_path, "index", ".").returncode == 2
    (tmp_path / "empty").mkdir()
    assert lrscale(tmp_path, "index", "empty").returncode == 1
