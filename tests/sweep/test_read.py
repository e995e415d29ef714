from __future__ import annotations

import gzip
import json
import string
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrscale.errors import LrscaleError
from lrscale.sweep import read_table

# Any text that a cell of such files can hold; blank rows of a single column cannot be told from blank lines.
NAMES = st.lists(st.text(string.ascii_letters + "._ /", min_size=1, max_size=8).map(str.strip), min_size=2, max_size=5)
CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8) | st.floats(allow_nan=False).map(repr)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    names = [name for name in dict.fromkeys(draw(NAMES)) if name]
    names = names if len(names) > 1 else ["a", "b"]
    rows = draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=6))
    return pd.DataFrame(rows, columns=names, dtype=object)


@given(tables(), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_survives_every_format(tmp_path: Path, frame: pd.DataFrame, kind: str, zipped: bool) -> None:
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    if zipped:
        raw = path.read_bytes()
        path = path.with_suffix(f"{path.suffix}.gz")
        path.write_bytes(gzip.compress(raw))
    table = read_table(path)
    assert table.format == kind
    assert table.frame.to_dict("list") == frame.to_dict("list")
    assert len(table.lines) == len(frame)


@pytest.mark.parametrize("name", ["runs", "runs.txt", "runs.dat.gz"])
def test_the_content_decides_where_the_suffix_says_nothing(tmp_path: Path, name: str) -> None:
    texts = {"csv": "lr,bs\n1,2\n", "tsv": "lr\tbs\n1\t2\n", "jsonl": '{"lr": 1, "bs": 2}\n'}
    for kind, text in texts.items():
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        assert read_table(path).format == kind


def test_a_semicolon_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_bytes("lr;bs\n0.1;2\n".encode("utf-8-sig"))
    assert list(read_table(path).frame.columns) == ["lr", "bs"]
    path.write_bytes("lr\tbs\n0.1\t2\n".encode("utf-16"))
    assert list(read_table(path).frame.columns) == ["lr", "bs"]


def test_nested_json_is_flattened_with_dots(tmp_path: Path) -> None:
    path = tmp_path / "wandb.jsonl"
    path.write_text('{"config": {"lr": 0.1}, "summary": {"val_loss": 2.0}}\n\n{"config": {"lr": 0.2}}\n')
    table = read_table(path)
    assert table.frame.to_dict("list") == {"config.lr": [0.1, 0.2], "summary.val_loss": [2.0, None]}
    assert table.lines.tolist() == [1, 3]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text('name,lr\n\n"two\nlines",1\nb,2\n')
    assert read_table(path).lines.tolist() == [3, 5]


BAD: dict[str, tuple[str, bytes, str, str]] = {
    "empty": ("runs.csv", b"", "is empty", "header"),
    "blank": ("runs.csv", b" \n\n", "is empty", "header"),
    "header only": ("runs.csv", b"lr,bs,loss\n", "a header and no rows", "one row for each run"),
    "binary": ("runs.csv", b"\x00\x01lr,bs", "is a binary file: byte 0 is zero", "CSV"),
    "excel": ("runs.xlsx", b"PK\x03\x04rest", "an Excel workbook", "Parquet"),
    "encoding": ("runs.csv", "lr,bs\n1,2\n3,é\n".encode("latin1"), "line 3 holds the byte 0xe9", "iconv"),
    "twice": ("runs.csv", b"lr,bs,lr\n1,2,3\n", "line 1: the header has the column lr 2 times", "rename"),
    "long row": ("runs.csv", b"lr,bs\n1,2\n1,2,3\n", "line 3: 3 cells under a header of 2", "quotes"),
    "short row": ("runs.csv", b"lr,bs\n1\n", "line 2: 1 cells under a header of 2", "mend"),
    "open quote": ("runs.csv", b'lr,bs\n1,"2\n', "line 2", "quote"),
    "no json": ("runs.jsonl", b'{"lr": 1}\n{"lr": \n', "line 2: not valid JSON", "one object a line"),
    "no object": ("runs.jsonl", b'{"lr": 1}\n[1, 2]\n', "line 2: [1, 2] is not an object", "a line holds one run"),
    "key twice": ("runs.jsonl", b'{"lr": 1, "lr": 2}\n', "the key lr twice", "rename"),
    "no parquet": ("runs.parquet", b"lr,bs\n1,2\n", "is named as Parquet and is not", "CSV"),
    "cut parquet": ("runs.parquet", b"PAR1xxxxPAR1", "is a damaged Parquet file", "copy it again"),
    "cut gzip": ("runs.csv.gz", gzip.compress(b"lr,bs\n1,2\n")[:-6], "is a damaged gzip file", "copy it again"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_the_line_and_the_remedy(tmp_path: Path, case: str) -> None:
    name, content, message, remedy = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LrscaleError) as caught:
        read_table(path)
    assert message in caught.value.message
    assert name in caught.value.message
    assert remedy in str(caught.value.hint)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LrscaleError, match="there is no file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.slow
def test_a_million_rows_are_read_in_a_few_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {"lr": rng.choice([1e-3, 1e-2], 1_000_000), "bs": 8, "loss": rng.random(1_000_000)}
    path = tmp_path / "runs.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    start = time.process_time()
    assert len(read_table(path).frame) == 1_000_000
    assert time.process_time() - start < 10
