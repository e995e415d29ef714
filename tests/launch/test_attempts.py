"""Who gets a second attempt, and in which order records are handed on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lrscale.errors import StudyError, TaskError
from lrscale.launch.attempts import Attempts, look_at_task
from lrscale.launch.tail import HowFar
from lrscale.store import TrialRecord

from .conftest import Watcher, tiny_request

LRS = (0.01, 0.02, 0.03)


def ended(trial_id: str, *, lost: bool = False) -> TrialRecord:
    if lost:
        return TrialRecord(trial_id=trial_id, status="crashed", reason="rank 1 is gone", retryable=True)
    return TrialRecord(trial_id=trial_id, status="completed", final_loss=1.0)


def test_a_lost_trial_goes_first_once_more_and_its_second_loss_is_its_record(tmp_path: Path) -> None:
    watcher = Watcher()
    requests = [tiny_request(tmp_path, lr=lr) for lr in LRS]
    names = [request.spec.trial_id for request in requests]
    attempts = Attempts(requests, watcher)
    first = attempts.begin()
    assert first is not None and first.number == 1
    attempts.end(first, ended(names[0], lost=True))
    assert list(attempts.over()) == []
    assert watcher.notes == [f"trial {names[0]}: rank 1 is gone; it is run once more"]
    again = attempts.begin()
    assert again is not None and (again.request, again.number) == (requests[0], 2)
    attempts.end(again, ended(names[0], lost=True))
    assert [record.retryable for record in attempts.over()] == [True]
    assert list(attempts.over()) == []
    assert attempts.next is requests[1]


def test_a_trial_that_may_not_start_has_no_record_and_one_that_may_not_start_again_has_its_first(
    tmp_path: Path,
) -> None:
    answers = iter([False, True, False])
    refused, lost = (
        dataclasses.replace(tiny_request(tmp_path, lr=lr), may_start=lambda: next(answers)) for lr in LRS[:2]
    )
    attempts = Attempts([refused, lost], Watcher())
    assert attempts.begin() is None
    attempt = attempts.begin()
    assert attempt is not None
    attempts.end(attempt, ended(lost.spec.trial_id, lost=True))
    assert attempts.begin() is None
    assert [record.trial_id for record in attempts.over()] == [lost.spec.trial_id]
    assert attempts.next is None


@pytest.mark.parametrize(
    ("failures", "error"),
    [
        (["lost", "lost"], StudyError("the process that builds the task to look at it was lost 2 times: gone")),
        (["own"], TaskError("the task cannot be built: ValueError: no")),
        (["lost", None], None),
    ],
)
def test_looking_at_a_task_is_tried_again_after_a_loss_and_not_after_an_error(
    failures: list[str | None], error: Exception | None, tmp_path: Path
) -> None:
    left = iter(failures)

    def build() -> TrialRecord | None:
        how = next(left)
        if how is None:
            (tmp_path / "outcome-0.json").write_text('{"kind": "result", "fields": {"parameters": 5}}')
            return None
        reason = "gone" if how == "lost" else "ValueError: no"
        return TrialRecord(trial_id="inspect", status="crashed", reason=reason, retryable=how == "lost")

    if error is None:
        assert look_at_task(build, tmp_path) == {"parameters": 5}
        return
    with pytest.raises(type(error), match=str(error)):
        look_at_task(build, tmp_path)
    assert list(left) == []


def test_silence_is_told_once_and_again_after_a_step(tmp_path: Path) -> None:
    request = tiny_request(tmp_path)
    watcher = Watcher()
    times = iter([0.0, 599.0, 601.0, 700.0, 800.0, 1399.0, 1402.0])
    how_far = HowFar(request, clock=lambda: next(times))
    for _ in range(3):
        how_far.tell(watcher)
    assert watcher.notes == [
        f"trial {request.spec.trial_id} has made no step for 10 minutes (the last was 0); "
        "if it hangs, layout.timeout ends such trials"
    ]
    (request.folder / "trajectory.jsonl").write_text('{"step": 3, "examples": 24}\n')
    for _ in range(3):
        how_far.tell(watcher)
    assert len(watcher.notes) == 2
    assert "the last was 3" in watcher.notes[1]
