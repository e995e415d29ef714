"""The judgement of a trial, from files alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lrscale.errors import StudyError, TaskError
from lrscale.launch.outcome import (
    LINE_LENGTH,
    TAIL_LINES,
    await_outcomes,
    completed,
    log_tail,
    make_record,
    misuse,
    read_outcomes,
)
from lrscale.store import TrialRecord
from lrscale.units import Layout

PAIR = Layout(per_device_batch_size=4, devices=2)
PEER_LOST = "RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:6234"


def leave(folder: Path, rank: int, kind: str, **outcome: Any) -> None:
    (folder / f"outcome-{rank}.json").write_text(json.dumps({"kind": kind, **outcome}))


def fail(folder: Path, rank: int, reason: str, at: float = 1.0) -> None:
    leave(folder, rank, "failure", at=at, fields={"status": "crashed", "reason": reason})


def judge(folder: Path, codes: Mapping[int, int], *, timed_out: bool = False) -> TrialRecord:
    return make_record("ab", folder, PAIR, codes, seconds=12.3, timed_out=timed_out)


def test_the_result_of_rank_zero_counts_whatever_came_after_it(tmp_path: Path) -> None:
    leave(tmp_path, 0, "result", fields={"status": "completed", "final_loss": 0.5, "timing": {"training": 2.0}})
    fail(tmp_path, 1, PEER_LOST)
    record = judge(tmp_path, {0: -6, 1: 1}, timed_out=True)
    assert (record.status, record.final_loss, record.layout) == ("completed", 0.5, PAIR)
    assert record.timing == {"training": 2.0, "total": 12.3}


def test_the_first_failure_is_the_cause(tmp_path: Path) -> None:
    fail(tmp_path, 0, "ValueError: second", at=2.0)
    fail(tmp_path, 1, "ValueError: first", at=1.0)
    (tmp_path / "rank-1.log").write_text("a\nValueError: first\n")
    record = judge(tmp_path, {0: 1, 1: 1})
    assert (record.status, record.reason, record.retryable) == ("crashed", "ValueError: first", False)
    assert record.log_tail == ("a", "ValueError: first")


def test_an_error_about_a_lost_peer_is_never_the_cause_while_there_is_another(tmp_path: Path) -> None:
    fail(tmp_path, 0, PEER_LOST, at=1.0)
    fail(tmp_path, 1, "ValueError: mine", at=2.0)
    assert judge(tmp_path, {0: 1, 1: 1}).reason == "ValueError: mine"
    (tmp_path / "outcome-1.json").unlink()
    record = judge(tmp_path, {0: 1, 1: -9})
    assert record.reason is not None
    assert record.reason.startswith("rank 1 was ended by SIGKILL")
    assert record.retryable


def test_ranks_that_lost_each_other_are_worth_another_attempt(tmp_path: Path) -> None:
    fail(tmp_path, 0, PEER_LOST)
    fail(tmp_path, 1, PEER_LOST)
    record = judge(tmp_path, {0: 1, 1: 1})
    assert (record.status, record.reason, record.retryable) == ("crashed", PEER_LOST, True)


def test_memory_exhausted_on_one_rank_is_the_outcome(tmp_path: Path) -> None:
    fail(tmp_path, 0, PEER_LOST)
    leave(tmp_path, 1, "result", fields={"status": "out_of_memory", "reason": "OutOfMemoryError: 2 GiB"})
    record = judge(tmp_path, {1: 0, 0: 1})
    assert (record.status, record.retryable) == ("out_of_memory", False)


def test_a_result_of_another_rank_does_not_complete_a_trial(tmp_path: Path) -> None:
    leave(tmp_path, 1, "result", fields={"status": "completed", "final_loss": 0.5})
    record = judge(tmp_path, {1: 0, 0: -9})
    assert (record.status, record.retryable, record.final_loss) == ("crashed", True, None)


def test_the_first_silent_rank_is_named_and_not_one_that_was_ended_after_it(tmp_path: Path) -> None:
    record = judge(tmp_path, {1: 3, 0: -9})
    assert record.reason == "rank 1 ended with code 3 without leaving a result"
    assert judge(tmp_path, {0: 0, 1: 0}).reason == "rank 0 ended with code 0 without leaving a result"
    assert judge(tmp_path, {0: -6, 1: -9}).reason == "rank 0 was ended by SIGABRT without leaving a result"
    assert judge(tmp_path, {0: -99, 1: -9}).reason == "rank 0 was ended by signal 99 without leaving a result"


def test_a_trial_out_of_time_shows_where_its_ranks_were(tmp_path: Path) -> None:
    stack = "".join(f'  File "{name}.py", line 1 in {name}\n' for name in "abcdefgh")
    (tmp_path / "rank-0.log").write_text(f"said\nThread 0x1 (most recent call first):\n{stack}")
    (tmp_path / "rank-1.log").write_text("nothing to say\n")
    record = judge(tmp_path, {0: -9, 1: -9}, timed_out=True)
    assert record.status == "timed_out"
    assert record.reason == "still running after 12 s, the limit of layout.timeout"
    assert record.log_tail[:2] == ("rank 0:", '  File "a.py", line 1 in a')
    assert not record.retryable
    (tmp_path / "rank-0.log").write_text("said\n")
    assert judge(tmp_path, {0: -9, 1: -9}, timed_out=True).log_tail == ("said",)


def test_a_failure_before_the_time_was_up_is_the_cause(tmp_path: Path) -> None:
    fail(tmp_path, 1, "ValueError: mine")
    assert judge(tmp_path, {1: 1, 0: -9}, timed_out=True).reason == "ValueError: mine"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"fields": {}}', "\udcff"])
def test_a_damaged_outcome_is_no_outcome(tmp_path: Path, text: str) -> None:
    (tmp_path / "outcome-0.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "outcome-x.json").write_text('{"kind": "result"}')
    (tmp_path / ".outcome-1.json.77.partial").write_text('{"kind": "result"}')
    assert read_outcomes(tmp_path) == {}
    assert not completed(tmp_path, 0)
    assert judge(tmp_path, {0: 0, 1: 0}).status == "crashed"


def test_misuse_and_a_full_disk_are_errors_and_no_outcomes(tmp_path: Path) -> None:
    assert misuse({}) is None
    leave(tmp_path, 1, "task_error", message="no such class", hint="use Net")
    error = misuse(read_outcomes(tmp_path))
    assert isinstance(error, TaskError)
    assert str(error) == "no such class; use Net"
    assert judge(tmp_path, {0: 2, 1: 2}).status == "crashed"
    fail(tmp_path, 1, "OSError: [Errno 28] No space left on device: 'x'")
    assert isinstance(misuse(read_outcomes(tmp_path)), StudyError)
    fail(tmp_path, 1, "ValueError: there are 28 errors")
    assert misuse(read_outcomes(tmp_path)) is None


def test_the_log_tail_is_bounded_whatever_was_printed(tmp_path: Path) -> None:
    assert log_tail(tmp_path, 0) == ()
    lines = [f"line {number} " + "x" * 2000 for number in range(1000)]
    (tmp_path / "rank-0.log").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe torn")
    tail = log_tail(tmp_path, 0)
    assert len(tail) == TAIL_LINES
    assert max(map(len, tail)) <= LINE_LENGTH
    assert tail[-1].endswith("torn")
    assert tail[-2].startswith("line 999 ")


def test_the_log_tail_of_a_segmentation_fault_shows_the_innermost_calls(tmp_path: Path) -> None:
    stack = "".join(f'  File "f.py", line {number} in f\n' for number in range(40))
    (tmp_path / "rank-0.log").write_text(
        f"before\nFatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n{stack}\n"
        "Extension modules: numpy._core (total: 50)\n"
    )
    assert log_tail(tmp_path, 0)[1] == '  File "f.py", line 0 in f'
    with (tmp_path / "rank-0.log").open("a") as stream:
        stream.write("printed later\n")
    assert log_tail(tmp_path, 0)[-1] == "printed later"


def test_outcomes_of_another_machine_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrscale.launch.outcome.LOOK_AGAIN", 0.02)
    late = threading.Timer(0.2, (tmp_path / "outcome-1.json").write_text, ['{"kind": "result", "fields": {}}'])
    late.start()
    await_outcomes(tmp_path, [1])
    assert read_outcomes(tmp_path).keys() == {1}
    late.join()
    monkeypatch.setattr("lrscale.launch.outcome.LATENCY", 0.1)
    began = time.monotonic()
    await_outcomes(tmp_path, [0, 1])
    assert 0.1 <= time.monotonic() - began < 5
    assert [path.name for path in tmp_path.iterdir()] == ["outcome-1.json"]
