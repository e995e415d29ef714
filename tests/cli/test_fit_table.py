from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lrscale.sweep import CurvesGroup, LawTableFit, StepsGroup, SweepFit
from tests.sweep.tables import curves, grid, steps, sweep, write

from .conftest import Ended

Lrscale = Callable[..., Ended]


def test_a_table_is_fitted_and_written(lrscale: Lrscale, tmp_path: Path) -> None:
    write(sweep(), tmp_path / "runs.csv")
    ended = lrscale(tmp_path, "fit", "runs.csv", "--report", "page.html", "--batch-unit", "examples")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.isascii()
    assert "runs.csv: 36 rows, 36 runs, none diverged; batch in examples" in ended.stdout
    assert "lr: column lr (guessed from its name)" in ended.stdout
    assert "At batch 64 the best peak LR is" in ended.stdout
    fit = SweepFit.from_dict(json.loads((tmp_path / "fits.json").read_text()))
    best = fit.groups[0].slices[64]
    page = (tmp_path / "page.html").read_text()
    assert f"{best.best_lr:.1e}".replace("e-0", "e-") in page
    assert fit.source.sha256 in page
    assert "batch (examples)" in page
    assert page.count("<svg") > 5
    for absent in ("trajectories", "range tests", "throughput"):
        assert absent in page


def test_nothing_is_written_beside_a_table_that_lies_elsewhere(lrscale: Lrscale, tmp_path: Path) -> None:
    for name in ("shared", "mine"):
        (tmp_path / name).mkdir()
    write(sweep(batches=(16,)), tmp_path / "shared" / "runs.csv")
    assert lrscale(tmp_path, "fit", "shared/runs.csv").returncode == 0
    assert lrscale(tmp_path, "fit", "shared/runs.csv", "--report", "mine/page.html").returncode == 0
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["runs.csv"]
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"page.html", "fits.json"}
    assert (tmp_path / "fits.json").read_text() == (tmp_path / "mine" / "fits.json").read_text()


def test_groups_have_an_overview_and_a_switch(lrscale: Lrscale, tmp_path: Path) -> None:
    write(grid(sizes=(1e8, 4e8), horizons=(4e9, 1.6e10)), tmp_path / "runs.csv")
    ended = lrscale(
        tmp_path, "fit", "runs.csv", "--by", "params,tokens", "--report", "page.html", "--holdout", "largest"
    )
    assert ended.returncode == 0, ended.stderr
    assert "params 400M, tokens 16B" in ended.stdout
    assert "held out, params 100M, tokens 4B: without batch 1024 the law says" in ended.stdout
    page = (tmp_path / "page.html").read_text()
    assert page.count('value="params 100M, tokens 4B"') == 3
    assert "Answer by group" in page
    assert "best LR against scale" in ended.stdout


def test_the_answer_no_is_exit_code_one(lrscale: Lrscale, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("lr,bs,loss\n1e-3,8,3.0\n2e-3,16,2.9\n")
    ended = lrscale(tmp_path, "fit", "runs.csv", "--report", "page.html")
    assert ended.returncode == 1
    assert "too_few_points" in ended.stdout
    assert "To do: add runs at other LRs" in ended.stdout
    assert "Cannot tell" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "there is no file absent.csv"),
        (["runs.csv", "--lr", "learning"], "--lr names the column learning, which is not there"),
        (["runs.csv", "--by", "model"], "there is no column model"),
        (["runs.csv", "--batch-unit", "token"], "did you mean tokens?"),
        (["runs.csv", "--holdout", "smallest"], "unknown holdout smallest"),
        (["runs.csv", "--confidence", "95"], "confidence 95.0 is not between 0 and 1"),
        (["runs.csv", "--tolerance", "-1"], "tolerance -1.0 is not a fraction"),
        (["runs.csv", "--out", "no/folder.json"], "there is no folder no"),
        (["runs.csv", "--out", "runs.csv"], "runs.csv is the table itself"),
        (["runs.csv", "--report", "notes.html"], "notes.html is there already and no report of lrscale"),
        (["runs.csv", "--out", "other.json"], "other.json is there already and no fits of runs.csv"),
        (["."], "plan.json"),
    ],
)
def test_wrong_use_is_exit_code_two_and_changes_nothing(
    lrscale: Lrscale, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(sweep(batches=(16,)), tmp_path / "runs.csv")
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    (tmp_path / "other.json").write_text('{"mine": 1}')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ended = lrscale(tmp_path, "fit", *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_fits_of_the_same_table_are_replaced_and_those_of_another_kept(lrscale: Lrscale, tmp_path: Path) -> None:
    frame = sweep(batches=(16,))
    write(frame, tmp_path / "runs.csv")
    write(frame, tmp_path / "more.csv")
    assert lrscale(tmp_path, "fit", "runs.csv").returncode == 0
    assert lrscale(tmp_path, "fit", "runs.csv").returncode == 0
    ended = lrscale(tmp_path, "fit", "more.csv")
    assert ended.returncode == 2
    assert "no fits of more.csv" in ended.stderr


def test_a_study_folder_is_fitted_anew(lrscale: Lrscale, tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished / "tiny-study", tmp_path / "study")
    before = json.loads((tmp_path / "study" / "fits.json").read_text())
    (tmp_path / "study" / "fits.json").unlink()
    ended = lrscale(tmp_path, "fit", "study")
    assert ended.returncode in (0, 1)
    assert "scaling:" in ended.stdout
    assert json.loads((tmp_path / "study" / "fits.json").read_text()) == before
    refused = lrscale(tmp_path, "fit", "study", "--by", "x")
    assert refused.returncode == 2
    assert "only for tables" in refused.stderr


def test_steps_to_a_target_are_fitted_and_reported(lrscale: Lrscale, tmp_path: Path) -> None:
    write(steps(noise=0.03, seeds=2), tmp_path / "steps.csv")
    ended = lrscale(tmp_path, "fit", "steps.csv", "--batch-unit", "examples", "--report", "page.html")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "kind: steps (column steps_to_target holds the steps to a target)" in ended.stdout
    fit = LawTableFit.from_dict(json.loads((tmp_path / "fits.json").read_text()), StepsGroup.from_dict)
    assert fit.groups[0].fit.estimate("critical_batch").value == pytest.approx(320, rel=0.2)
    page = (tmp_path / "page.html").read_text()
    assert "How big a batch is worth it?" in page and page.count("<svg") >= 2
    # The same command may write over what it wrote.
    assert lrscale(tmp_path, "fit", "steps.csv", "--report", "page.html").returncode == 0


def test_loss_curves_are_fitted_and_reported(lrscale: Lrscale, tmp_path: Path) -> None:
    write(curves("constant", "drop", "late drop"), tmp_path / "curves.csv")
    ended = lrscale(tmp_path, "fit", "curves.csv", "--report", "page.html")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert LawTableFit.from_dict(json.loads((tmp_path / "fits.json").read_text()), CurvesGroup.from_dict).ok
    page = (tmp_path / "page.html").read_text()
    assert "Does the law predict schedules that it has not seen?" in page and "late drop" in page


def test_a_flag_that_means_nothing_for_the_kind_is_refused(lrscale: Lrscale, tmp_path: Path) -> None:
    write(curves("constant", "drop"), tmp_path / "curves.csv")
    ended = lrscale(tmp_path, "fit", "curves.csv", "--tolerance", "0.01")
    assert ended.returncode == 2 and "--tolerance means nothing for a table of curves" in ended.stderr
    ended = lrscale(tmp_path, "fit", "curves.csv", "--params", "model")
    assert ended.returncode == 2 and "--params means nothing for a table of curves" in ended.stderr
