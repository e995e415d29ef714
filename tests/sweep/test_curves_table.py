from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from lrscale.errors import LrscaleError
from lrscale.sweep import CurvesGroup, LawTableFit, analyse_curves_table, read_table, table_kind
from tests.sweep.tables import curves, write


def test_curves_are_told_from_runs_by_a_step_that_rises() -> None:
    frame = curves("constant", "drop").astype(str)
    assert table_kind(frame, {}) == ("curves", "kind: curves (column step rises along each value of run)")
    two_models = pd.concat([frame, frame.assign(model="large")])
    assert table_kind(two_models, {}, by=["model"])[0] == "curves"
    # A finished run each, of one length: their step is no axis.
    runs = pd.DataFrame({"run": ["a", "b", "c"], "step": ["100"] * 3, "lr": ["1", "2", "4"], "loss": ["3", "2", "3"]})
    assert table_kind(runs, {})[0] == "runs"
    assert table_kind(runs, {}, "curves") == ("curves", None)
    with pytest.raises(LrscaleError, match="unknown kind curve"):
        table_kind(runs, {}, "curve")


def test_a_schedule_left_out_is_predicted(tmp_path: Path) -> None:
    table = read_table(write(curves("constant", "drop", "late drop", "linear"), tmp_path / "t.csv"))
    fit = analyse_curves_table(table, holdout="late drop")
    group = fit.groups[0]
    assert group.ok and [curve.name for curve in group.curves if curve.held_out] == ["late drop"]
    unseen = next(curve for curve in group.curves if curve.held_out)
    assert unseen.lo is not None and unseen.hi is not None
    assert unseen.predicted[-1] == pytest.approx(unseen.loss[-1], rel=0.01)
    assert unseen.lo < unseen.loss[-1] < unseen.hi
    assert next(one for one in group.fit.held_out if one.name == "late drop").rms_error < 0.02
    assert LawTableFit.from_dict(json.loads(json.dumps(fit.to_dict())), CurvesGroup.from_dict) == fit


def test_groups_are_fitted_on_their_own(tmp_path: Path) -> None:
    both = pd.concat([curves("constant", "drop"), curves("constant", "drop", model="large", floor=1.5)])
    fit = analyse_curves_table(read_table(write(both, tmp_path / "t.csv")), by=["model"])
    assert [group.key["model"] for group in fit.groups] == ["large", "small"]
    last = {group.key["model"]: group.curves[0].loss[-1] for group in fit.groups}
    assert last["small"] - last["large"] == pytest.approx(0.5, abs=0.02)


def test_the_order_of_rows_and_doubled_steps_do_not_matter(tmp_path: Path) -> None:
    frame = curves("constant", "drop")
    mixed = pd.concat([frame, frame.iloc[::7]]).sample(frac=1.0, random_state=0)
    one = analyse_curves_table(read_table(write(frame, tmp_path / "a.csv")))
    other = analyse_curves_table(read_table(write(mixed, tmp_path / "b.csv")))
    assert one.groups[0].fit == other.groups[0].fit


def test_a_short_run_is_left_out_and_named(tmp_path: Path) -> None:
    frame = pd.concat([curves("constant", "drop"), curves("linear").iloc[:3]])
    group = analyse_curves_table(read_table(write(frame, tmp_path / "t.csv"))).groups[0]
    assert group.ok and group.notes == ("Run linear is left out: it has 3 losses after its warm-up.",)


def test_one_schedule_alone_is_refused_as_a_result(tmp_path: Path) -> None:
    fit = analyse_curves_table(read_table(write(curves("constant"), tmp_path / "t.csv")))
    assert not fit.ok and fit.groups[0].fit.status.value == "too_few_points"


def test_bad_input_names_the_line_and_the_remedy(tmp_path: Path) -> None:
    frame = curves("constant", "drop").astype({"lr": object})
    frame.loc[3, "lr"] = ""
    table = read_table(write(frame, tmp_path / "t.csv"))
    with pytest.raises(LrscaleError, match="line 5 has nothing"):
        analyse_curves_table(table)
    assert analyse_curves_table(table, drop_bad=True).groups[0].ok
    with pytest.raises(LrscaleError, match="no run is named cosine"):
        analyse_curves_table(table, drop_bad=True, holdout="cosine")
    nameless = read_table(write(curves("constant").drop(columns="run"), tmp_path / "u.csv"))
    with pytest.raises(LrscaleError, match="no column tells the runs apart"):
        analyse_curves_table(nameless)
