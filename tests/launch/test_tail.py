from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lrscale.launch.tail import last_row


def test_no_file_and_no_row_are_no_progress(tmp_path: Path) -> None:
    assert last_row(tmp_path) is None
    assert last_row(tmp_path / "absent") is None
    (tmp_path / "trajectory.jsonl").write_text('{"step": 1')
    assert last_row(tmp_path) is None


@given(count=st.integers(1, 200), torn=st.sampled_from([b"", b'{"step": 9', b'{"step": 99}']))
def test_the_last_whole_row_is_found_and_a_torn_one_never_read(
    tmp_path_factory: object, count: int, torn: bytes
) -> None:
    folder = tmp_path_factory.mktemp("trial")  # type: ignore[attr-defined]
    rows = b"".join(json.dumps({"step": number, "train_loss": 0.5}).encode() + b"\n" for number in range(count))
    (folder / "trajectory.jsonl").write_bytes(rows + torn)
    row = last_row(folder)
    assert row is not None
    assert row["step"] == count - 1
