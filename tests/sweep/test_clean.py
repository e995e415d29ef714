from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrscale.errors import LrscaleError
from lrscale.sweep import CleanRuns, clean, map_columns, read_table


def cleaned(folder: Path, text: str, **settings: Any) -> CleanRuns:
    path = folder / "runs.csv"
    path.write_text(text)
    table = read_table(path)
    return clean(table, map_columns(table.frame), **settings)


@pytest.mark.parametrize("loss", ["", "nan", "NaN", "inf", "-inf", "None", "null", "N/A", "diverged", "1e200"])
def test_a_run_without_a_loss_diverged(tmp_path: Path, loss: str) -> None:
    runs = cleaned(tmp_path, f"lr,bs,loss\n1,8,2.0\n2,8,{loss}\n")
    assert runs.diverged.tolist() == [False, True]


def test_status_decides_what_diverged_and_what_is_left_out(tmp_path: Path) -> None:
    rows = "1,8,2.0,finished\n2,8,2.1,diverged\n3,8,,crashed\n4,8,2.2,TrialState.COMPLETE\n5,8,2.3,odd\n"
    runs = cleaned(tmp_path, f"lr,bs,loss,state\n{rows}")
    assert runs.lr.tolist() == [1, 2, 4, 5]
    assert runs.diverged.tolist() == [False, True, False, False]
    assert any("1 row left out by their status" in note and "1 crashed" in note for note in runs.notes)
    assert any("status odd is not known" in note for note in runs.notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0,8,2.0", "column lr must hold a positive learning rate: line 3 has 0"),
        ("-1e-3,8,2.0", "line 3 has -1e-3"),
        ("nan,8,2.0", "line 3 has nan"),
        (",8,2.0", "line 3 has nothing"),
        ("1e-3x,8,2.0", "line 3 has 1e-3x"),
        ("inf,8,2.0", "within nine orders of magnitude of the others: line 3 has inf"),
        ("1e-3,0,2.0", "column bs must hold a positive batch size: line 3 has 0"),
        ("1e-3,-8,2.0", "line 3 has -8"),
        ("1e-3,,2.0", "line 3 has nothing"),
        ('1e-3,8,"2,31"', "column loss must hold a loss: line 3 has 2,31 (write decimal points, not commas)"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_or_dropped_aloud(tmp_path: Path, row: str, message: str) -> None:
    text = f"lr,bs,loss\n1e-2,8,2.0\n{row}\n"
    with pytest.raises(LrscaleError) as caught:
        cleaned(tmp_path, text)
    assert message in caught.value.message
    assert "--drop-bad" in str(caught.value.hint)
    runs = cleaned(tmp_path, text, drop_bad=True)
    assert runs.lr.tolist() == [1e-2]
    assert any("1 row dropped" in note and "line 3" in note for note in runs.notes)


def test_an_lr_far_from_all_others_is_a_mistake_in_any_unit(tmp_path: Path) -> None:
    for unit in (1e-6, 1.0, 1e6):
        rows = "".join(f"{lr * unit},8,{2 + place}\n" for place, lr in enumerate((1e-3, 1e-2, 1e-14)))
        with pytest.raises(LrscaleError, match="within nine orders of magnitude of the others: line 4 has"):
            cleaned(tmp_path, f"lr,bs,loss\n{rows}")


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    with pytest.raises(LrscaleError, match="and 15 more rows"):
        cleaned(tmp_path, "lr,bs,loss\n1,8,2\n" + "".join(f"0,8,{row}\n" for row in range(20)))


def test_no_row_left_is_said(tmp_path: Path) -> None:
    with pytest.raises(LrscaleError, match="none of the 1 rows is left"):
        cleaned(tmp_path, "lr,bs,loss\n0,8,2\n", drop_bad=True)


def test_exact_duplicates_are_dropped_and_replicates_kept(tmp_path: Path) -> None:
    runs = cleaned(tmp_path, "lr,bs,loss\n1,8,2.0\n1,8,2.0\n1,8,2.1\n")
    assert runs.loss.tolist() == [2.0, 2.1]
    assert any("1 row dropped as exact duplicates" in note and "line 3" in note for note in runs.notes)


def test_numbers_written_in_several_ways_are_the_same(tmp_path: Path) -> None:
    runs = cleaned(tmp_path, "lr,bs,loss\n0.001,8,2.0\n1e-3,8.0,2.1\n 1E-3 , 8 ,2.2\n")
    assert np.unique(runs.lr).tolist() == [1e-3]
    assert np.unique(runs.batch).tolist() == [8.0]


def test_seeds_are_labels(tmp_path: Path) -> None:
    runs = cleaned(tmp_path, "lr,bs,loss,seed\n1,8,2.0,0\n2,8,2.1,1.0\n3,8,2.2,a\n4,8,2.3,\n")
    assert runs.seed.tolist() == [0, 1, "a", None]


def test_the_batch_unit_is_never_guessed(tmp_path: Path) -> None:
    text = "lr,batch_tokens,loss\n1,65536,2.0\n"
    assert (cleaned(tmp_path, text).batch_unit, cleaned(tmp_path, text).unit_words) == (None, "batch")
    assert cleaned(tmp_path, text, batch_unit="tokens").unit_words == "batch (tokens)"
    assert "called batch_tokens" in cleaned(tmp_path, text, batch_unit="examples").warnings[0]


def test_a_batch_column_in_two_units_is_suspected(tmp_path: Path) -> None:
    text = "lr,bs,loss\n1,32,2.0\n1,64,2.1\n1,65536,2.0\n1,131072,2.2\n"
    assert "jumps from 64 to 65536" in cleaned(tmp_path, text).warnings[0]
    assert not cleaned(tmp_path, "lr,bs,loss\n1,32,2.0\n1,1024,2.1\n").warnings


def test_a_scale_with_gaps_is_not_used_aloud(tmp_path: Path) -> None:
    runs = cleaned(tmp_path, "lr,bs,loss,params\n1,8,2.0,1e8\n2,8,2.1,\n")
    assert not runs.scale
    assert "Column params (params) is not used: 1 row" in runs.warnings[0]
