"""A table of finished runs, read from CSV, TSV, JSON lines or Parquet as text, with the line of each row."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from lrscale.errors import LrscaleError

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_FORMATS = "CSV, TSV, JSON lines and Parquet, each plain or gzipped"
# Signatures of files that people pass by mistake, from their formats' specifications.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x89PNG": "a PNG image",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepTable:
    """A table as it lies in the file: nothing converted, nothing dropped."""

    path: Path
    format: str
    """``"csv"``, ``"tsv"``, ``"jsonl"`` or ``"parquet"``."""
    sha256: str
    """Of the file, as hexadecimal digits."""
    frame: pd.DataFrame
    """Columns by name. Cells are text, or the values of JSON and Parquet; an absent one is None or empty text."""
    lines: npt.NDArray[np.int64]
    """Line of the file on which each row begins, counted from 1; for Parquet the number of the row."""

    @property
    def place(self) -> str:
        """What `lines` counts: ``"line"`` or ``"row"``."""
        return "row" if self.format == "parquet" else "line"


def read_table(path: Path) -> SweepTable:
    """Read a table of runs; the format follows from the suffix, and where that is unknown from the content.

    Parameters
    ----------
    path : Path
        CSV (comma or semicolon), TSV, JSON lines (nested keys are joined by a dot) or Parquet; gzipped or not. Text is
        UTF-8, or UTF-16 with a byte order mark.

    Returns
    -------
    SweepTable

    Raises
    ------
    LrscaleError
        For a file that is absent, empty, binary, of another encoding, has no rows or a column twice, or has a row with
        more or fewer cells than the header; the message names the line and the remedy.
    """
    raw = _bytes_of(path)
    digest = hashlib.sha256(raw).hexdigest()
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise LrscaleError(f"{path} is a damaged gzip file: {error}", hint="copy it again") from error
    suffix = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    kind = _SUFFIXES.get(suffix)
    if not raw.strip():
        raise LrscaleError(f"{path} is empty", hint="a table has a header and one row for each run")
    if raw[:4] == b"PAR1":
        frame, lines, kind = *_read_parquet(path, raw), "parquet"
    elif kind == "parquet":
        raise LrscaleError(f"{path} is named as Parquet and is not", hint=f"these can be read: {_FORMATS}")
    else:
        text = _text_of(path, raw)
        start = text.lstrip()[:1]
        if kind == "jsonl" or (kind is None and start in ("{", "[")):
            frame, lines, kind = *_read_json(path, text), "jsonl"
        else:
            mark = _delimiter(text, kind)
            frame, lines, kind = *_read_delimited(path, text, mark), "tsv" if mark == "\t" else "csv"
    if not len(frame):
        raise LrscaleError(f"{path} has a header and no rows", hint="a table has one row for each run")
    return SweepTable(path=path, format=kind, sha256=digest, frame=frame, lines=lines)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise LrscaleError(f"there is no file {path}", hint="give a table of runs, or a study folder") from error
    except OSError as error:
        raise LrscaleError(f"cannot read {path}: {error.strerror}") from error


def _text_of(path: Path, raw: bytes) -> str:
    for signature, what in _SIGNATURES.items():
        if raw.startswith(signature):
            raise LrscaleError(f"{path} is {what}, not a table of text", hint=f"these can be read: {_FORMATS}")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in raw:
        raise LrscaleError(
            f"{path} is a binary file: byte {raw.index(0)} is zero", hint=f"these can be read: {_FORMATS}"
        )
    else:
        encoding = "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise LrscaleError(
            f"{path} is not {encoding.removesuffix('-sig').upper()}: line {line} holds the byte "
            f"0x{raw[error.start]:02x}",
            hint="save it as UTF-8, for example with `iconv -f latin1 -t utf-8`",
        ) from error


def _delimiter(text: str, kind: str | None) -> str:
    if kind == "tsv":
        return "\t"
    header = next((line for line in text.splitlines() if line.strip()), "")
    counts = {mark: header.count(mark) for mark in (",", "\t", ";")}
    return max(counts, key=lambda mark: counts[mark])


def _read_delimited(path: Path, text: str, delimiter: str) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            begins, start = start, reader.line_num + 1
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue
            if header is None:
                header = _header(path, cells, begins)
                continue
            if len(cells) != len(header):
                raise LrscaleError(
                    f"{path}, line {begins}: {len(cells)} cells under a header of {len(header)}",
                    hint="mend the row; a cell that holds the delimiter needs quotes",
                )
            rows.append(cells)
            lines.append(begins)
    except csv.Error as error:
        raise LrscaleError(
            f"{path}, line {reader.line_num}: {error}", hint="look for a quote that is not closed"
        ) from error
    assert header is not None  # text that is not blank has a first line
    return _frame(dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}), np.asarray(lines, np.int64)


def _header(path: Path, cells: Sequence[str], line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    for place, name in enumerate(names):
        # The index that pandas writes has no name.
        if not name:
            names[place] = f"column {place + 1}"
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise LrscaleError(
            f"{path}, line {line}: the header has the column {twice[0]} {Counter(names)[twice[0]]} times",
            hint="rename or remove one of them",
        )
    return names


def _read_json(path: Path, text: str) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, record in _json_records(path, text):
        if not isinstance(record, dict):
            raise LrscaleError(
                f"{path}, line {number}: {json.dumps(record)[:40]} is not an object",
                hint='a line holds one run, such as {"lr": 0.001, "batch_size": 64, "loss": 2.3}',
            )
        records.append(_flat(record))
        lines.append(number)
    names = list(dict.fromkeys(name for record in records for name in record))
    return _frame({name: [record.get(name) for record in records] for name in names}), np.asarray(lines, np.int64)


def _json_records(path: Path, text: str) -> list[tuple[int, Any]]:
    def twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise LrscaleError(
                f"{path}: an object has the key {next(name for name in names if names.count(name) > 1)} twice",
                hint="rename or remove one of them",
            )
        return dict(pairs)

    if text.lstrip().startswith("["):
        try:
            return [(place, one) for place, one in enumerate(json.loads(text, object_pairs_hook=twice), start=1)]
        except ValueError as error:
            raise LrscaleError(f"{path} is not valid JSON: {error}", hint="write one object a line") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append((number, json.loads(line, object_pairs_hook=twice)))
            except (ValueError, RecursionError) as error:
                raise LrscaleError(
                    f"{path}, line {number}: not valid JSON: {error}", hint="write one object a line"
                ) from error
    return found


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _read_parquet(path: Path, raw: bytes) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(raw))
    except (pa.ArrowException, OSError) as error:
        raise LrscaleError(f"{path} is a damaged Parquet file: {str(error)[:200]}", hint="copy it again") from error
    names = _header(path, table.column_names, 1)
    columns = {name: _scalars(column.to_pandas()) for name, column in zip(names, table.columns, strict=True)}
    frame = pd.DataFrame(columns) if columns else pd.DataFrame(index=range(table.num_rows))
    return frame, np.arange(1, len(frame) + 1, dtype=np.int64)


def _scalars(cells: pd.Series) -> pd.Series:
    """Return cells that can be compared and hashed: lists, structs and bytes as text."""
    import pandas as pd

    if cells.dtype != object:
        return cells
    return pd.Series(
        [one if one is None or isinstance(one, (str, int, float)) else str(one) for one in cells], dtype=object
    )


def _frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(list(values), dtype=object) for name, values in columns.items()})
