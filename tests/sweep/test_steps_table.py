from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from lrscale.errors import LrscaleError
from lrscale.sweep import LawTableFit, StepsGroup, analyse_steps_table, read_table, table_kind
from tests.laws.steps.published import BATCH, CRITICAL_20, REFERENCE, STEPS
from tests.sweep.tables import STEP_BATCHES, steps, write


def test_published_tables_give_the_published_critical_batch_sizes(tmp_path: Path) -> None:
    rows = [
        {"model": model, "batch_seqs": batch, "steps_to_goal": count}
        for model, counts in STEPS.items()
        for batch, count in zip(BATCH, counts, strict=True)
    ]
    table = read_table(write(pd.DataFrame(rows), tmp_path / "published.csv"))
    assert table_kind(table.frame, {})[0] == "steps"
    fit = analyse_steps_table(table, by=["model"], batch_unit="sequences", reference_batch=REFERENCE)
    found = {group.key["model"]: group.fit.estimate("critical_batch_20").value for group in fit.groups}
    assert found == {model: pytest.approx(size, rel=0.002) for model, size in CRITICAL_20.items()}


def test_a_fit_survives_a_round_trip(tmp_path: Path) -> None:
    fit = analyse_steps_table(read_table(write(steps(noise=0.05, seeds=3), tmp_path / "t.csv")))
    assert LawTableFit.from_dict(json.loads(json.dumps(fit.to_dict())), StepsGroup.from_dict) == fit
    assert fit.groups[0].seeds == 3


def test_each_batch_size_stands_for_its_best_lr(tmp_path: Path) -> None:
    best = steps()
    worse = best.assign(lr=1e-2, steps_to_target=best["steps_to_target"] * 3)
    table = read_table(write(pd.concat([best.assign(lr=1e-3), worse]), tmp_path / "t.csv"))
    group = analyse_steps_table(table).groups[0]
    assert group.fit.estimate("critical_batch").value == pytest.approx(320, rel=1e-3)
    assert group.notes[0] == "Each batch size stands for its best of up to 2 LRs."


def test_a_run_that_fell_short_is_a_bound_where_its_length_is_known(tmp_path: Path) -> None:
    whole = steps(noise=0.02, seeds=2)
    short = whole.assign(max_steps=1500)
    short.loc[short["steps_to_target"] > 1500, "steps_to_target"] = None
    fit = analyse_steps_table(read_table(write(short, tmp_path / "t.csv")))
    law = fit.groups[0].fit
    assert sum(side > 0 for side in law.censored) == 2
    ends = law.estimate("critical_batch").interval
    assert ends is not None and ends.lo is not None and ends.hi is not None and ends.lo < 320 < ends.hi
    without = analyse_steps_table(read_table(write(short.drop(columns="max_steps"), tmp_path / "u.csv")))
    assert "2 rows left out: they did not reach the target" in without.source.notes[0]


def test_targets_mixed_in_a_group_are_warned_of(tmp_path: Path) -> None:
    mixed = pd.concat([steps().assign(target=3.0), steps(fewest=300).assign(target=2.9)])
    table = read_table(write(mixed, tmp_path / "t.csv"))
    assert "add target to --by" in analyse_steps_table(table).warnings[0]
    apart = analyse_steps_table(table, by=["target"])
    assert apart.warnings == () and [group.key for group in apart.groups] == [{"target": 2.9}, {"target": 3.0}]


@pytest.mark.parametrize(("cell", "rule"), [("-3", "line 2 has -3"), ("many", "line 2 has many")])
def test_a_row_without_a_count_is_named_with_its_line(tmp_path: Path, cell: str, rule: str) -> None:
    wrong = steps().astype({"steps_to_target": object})
    wrong.loc[0, "steps_to_target"] = cell
    table = read_table(write(wrong, tmp_path / "t.csv"))
    with pytest.raises(LrscaleError, match=rule) as caught:
        analyse_steps_table(table)
    assert "--drop-bad" in str(caught.value.hint)
    kept = analyse_steps_table(table, drop_bad=True)
    assert kept.source.n_runs == len(STEP_BATCHES) - 1
