from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from lrscale.cli.progress_board import ProgressBoard, describe
from lrscale.cli.progress_lines import HEARTBEAT, LineProgress
from lrscale.cli.progress_terminal import TerminalProgress
from lrscale.launch.progress import AbstractProgress
from lrscale.store import STOPPER, ScheduleSpec, Status, Trial, TrialRecord, TrialSpec
from lrscale.units import Layout

LAYOUT = Layout(per_device_batch_size=16)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spec(lr: float = 1e-3, *, batch: int = 16, seed: int = 0, schedule: str = "cosine") -> TrialSpec:
    return TrialSpec(
        task={}, schedule=ScheduleSpec(name=schedule), peak_lr=lr, global_batch_size=batch, horizon=100, seed=seed
    )


def trial(
    of: TrialSpec, seconds: float | None, status: Status = "completed", loss: float | None = 0.25, reason: str = ""
) -> Trial:
    record = TrialRecord(
        trial_id=of.trial_id,
        status=status,
        final_loss=loss,
        reason=reason or None,
        monitor="val_loss",
        timing={} if seconds is None else {"total": seconds},
    )
    return Trial(of, record)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def play(progress: AbstractProgress, clock: Clock) -> Iterator[str]:
    """A study of two experiments, the second in two rounds, with a reused trial and one that diverges."""
    ramp = spec(schedule="ramp")
    progress.started("range_test", 1, 0)
    progress.trial_started(ramp, LAYOUT)
    clock.now += 3
    progress.trial_progress(ramp.trial_id, 40, 100, 1.5)
    yield "ramp at step 40"
    clock.now += 1
    progress.trial_finished(trial(ramp, 4.0))
    first, second, third = spec(1e-3), spec(2e-3), spec(4e-3)
    progress.started("scaling", 2, 1)
    for one, status, loss, reason in (
        (first, "completed", 0.25, ""),
        (second, "diverged", None, "loss is not finite at step 31\nlast loss 3e9"),
    ):
        progress.trial_started(one, LAYOUT)
        clock.now += 10
        progress.trial_finished(trial(one, 10.0, status, loss, reason))  # type: ignore[arg-type]  # literals in a tuple
    progress.started("scaling", 1, 3)
    progress.note("the grid was extended upwards")
    progress.trial_started(third, LAYOUT)
    clock.now += HEARTBEAT
    progress.trial_progress(third.trial_id, 80, 100, None)
    progress.trial_progress(third.trial_id, 81, 100, 0.5)
    yield "third at step 81"
    progress.trial_finished(trial(third, HEARTBEAT))
    progress.finished()
    yield "end"


def test_lines_tell_the_whole_study(clock: Clock) -> None:
    stream = io.StringIO()
    list(play(LineProgress(stream, {"range_test": 1, "scaling": 9}, clock=clock), clock))
    assert stream.getvalue().splitlines() == [
        "[0:00:00] range_test (1 of 2): 1 trial to run, 0 reused",
        "[0:00:04] range_test 1/1: batch 16, LR ramp to 1e-3, seed 0: val_loss 0.25 in 4.0 s",
        "[0:00:04] scaling (2 of 2): 2 trials to run, 1 reused",
        "[0:00:14] scaling 1/2: batch 16, LR 1e-3, cosine, seed 0: val_loss 0.25 in 10 s; 10 s left in this round, "
        "at most 1 min 10 s in all",
        "[0:00:24] scaling 2/2: batch 16, LR 2e-3, cosine, seed 0: diverged: loss is not finite at step 31 in 10 s",
        "[0:00:24] scaling (2 of 2): 1 further trial",
        "[0:00:24] the grid was extended upwards",
        "[0:00:54] scaling: batch 16, LR 4e-3, cosine, seed 0: step 80 of 100, training loss -; 0.0 s left in this "
        "round, at most 50 s in all",
        "[0:00:54] scaling 3/3: batch 16, LR 4e-3, cosine, seed 0: val_loss 0.25 in 30 s",
    ]


def test_lines_are_ascii_and_need_no_carriage_return(clock: Clock) -> None:
    stream = io.StringIO()
    list(play(LineProgress(stream, clock=clock), clock))
    text = stream.getvalue()
    assert text.isascii()
    assert "\r" not in text
    assert "\x1b" not in text


def test_a_silent_trial_gets_one_line_per_heartbeat(clock: Clock) -> None:
    stream = io.StringIO()
    progress = LineProgress(stream, clock=clock)
    progress.started("scaling", 1, 0)
    progress.trial_started(spec(), LAYOUT)
    for step in range(1, 601):
        clock.now += 0.2
        progress.trial_progress(spec().trial_id, step, 1000, 1.0)
    assert len(stream.getvalue().splitlines()) == 1 + int(600 * 0.2 / HEARTBEAT)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminal_shows_the_running_trial_and_keeps_what_did_not_complete(clock: Clock, encoding: str) -> None:
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding), width=110, force_terminal=True, color_system=None)
    progress = TerminalProgress(console, {"range_test": 1, "scaling": 9}, clock=clock)
    pictures = {moment: drawn(progress) for moment in play(progress, clock)}
    console.file.flush()
    kept = raw.getvalue().decode(encoding)
    ramp = pictures["ramp at step 40"]
    assert "range_test (1 of 2)" in ramp[0]
    assert ramp[0].endswith("0 of 1 trial")
    assert ramp[1] == "4.5 s left in this round"
    assert ramp[2].split() == ["batch", "LR", "seed", "step", "train", "loss", "time", "schedule"]
    assert ramp[3].split() == ["16", "1e-3", "0", "40/100", "1.5", "3.0", "s", "ramp"]
    third = pictures["third at step 81"]
    assert third[0].endswith("2 of 3 trials, 1 reused, 1 diverged")
    assert third[1] == "0.0 s left in this round, at most 50 s in all"
    assert third[3].split() == ["16", "4e-3", "0", "81/100", "0.5", "30", "s", "cosine"]
    assert "range_test (1 of 2): 1 of 1 trial, 4.0 s" in kept
    assert "  batch 16, LR 2e-3, cosine, seed 0: diverged: loss is not finite at step 31" in kept
    assert "the grid was extended upwards" in kept
    assert "scaling (2 of 2): 3 of 3 trials, 1 reused, 1 diverged, 50 s" in kept


def test_a_trial_that_a_search_stops_is_told_once_and_is_no_mishap(clock: Clock) -> None:
    stream = io.StringIO()
    terminal = TerminalProgress(Console(file=stream, width=110), {"search": 2}, clock=clock)
    lines = io.StringIO()
    plain = LineProgress(lines, {"search": 2}, clock=clock)
    one = spec()
    reason = "stopped at 30 % of the horizon: loss 0.5 at step 30 is above 0.4"
    stopped = trial(one, 3.0, "stopped", None, reason)
    record = dataclasses.replace(stopped.record, measurements={STOPPER: {"name": "median"}})
    for progress in (terminal, plain):
        progress.started("search", 1, 0)
        progress.trial_started(one, LAYOUT)
        progress.trial_finished(Trial(one, record))
        progress.finished()
    assert "stopped at" not in stream.getvalue()
    assert "seed 0: stopped at 30 % of the horizon" in lines.getvalue()
    assert "stopped: stopped" not in lines.getvalue()


def drawn(progress: TerminalProgress) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=110, color_system=None).print(progress.picture())
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_ending_twice_says_nothing_twice(clock: Clock) -> None:
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, width=110), clock=clock)
    progress.started("scaling", 0, 4)
    progress.finished()
    once = stream.getvalue()
    progress.finished()
    assert stream.getvalue() == once


def test_square_brackets_of_a_reason_survive(clock: Clock) -> None:
    stream = io.StringIO()
    progress = TerminalProgress(Console(file=stream, width=200), clock=clock)
    progress.started("scaling", 1, 0)
    progress.trial_finished(trial(spec(), 1.0, "crashed", None, "expected shape [bold] [16, 3]"))
    progress.finished()
    assert "expected shape [bold] [16, 3]" in stream.getvalue()


def finish(board: ProgressBoard, of: TrialSpec, seconds: float, status: Status = "completed") -> None:
    board.begin(of, LAYOUT)
    board.end(trial(of, seconds, status))


def board_after(clock: Clock, events: Callable[[ProgressBoard], None]) -> ProgressBoard:
    board = ProgressBoard(clock=clock)
    board.start("scaling", 10, 0)
    events(board)
    return board


def test_the_rest_is_unknown_before_any_step(clock: Clock) -> None:
    assert board_after(clock, lambda board: None).remaining() is None
    assert board_after(clock, lambda board: board.begin(spec(), LAYOUT)).remaining() is None


def test_the_rest_follows_the_trials_of_the_same_batch(clock: Clock) -> None:
    def events(board: ProgressBoard) -> None:
        finish(board, spec(seed=0, batch=16), 10.0)
        finish(board, spec(seed=0, batch=64), 2.0)
        finish(board, spec(seed=1, batch=64), 4.0)
        board.begin(spec(seed=2, batch=64), LAYOUT)

    assert board_after(clock, events).remaining() == pytest.approx((10 - 3) * 3.0)


def test_the_rest_falls_back_to_all_trials(clock: Clock) -> None:
    def events(board: ProgressBoard) -> None:
        finish(board, spec(seed=0, batch=16), 10.0)
        finish(board, spec(seed=1, batch=16), 20.0)
        board.begin(spec(seed=2, batch=64), LAYOUT)

    assert board_after(clock, events).remaining() == pytest.approx(8 * 15.0)


def test_a_trial_that_ended_early_does_not_shorten_the_estimate(clock: Clock) -> None:
    def events(board: ProgressBoard) -> None:
        finish(board, spec(seed=0), 10.0)
        finish(board, spec(seed=1), 0.1, "diverged")

    assert board_after(clock, events).remaining() == pytest.approx(8 * 10.0)


def test_nothing_more_to_decide_is_one_time_and_not_two(clock: Clock) -> None:
    board = ProgressBoard({"range_test": 1, "scaling": 3}, clock=clock)
    board.start("range_test", 1, 0)
    finish(board, spec(seed=0), 10.0)
    board.start("scaling", 2, 0)
    board.begin(spec(seed=1), LAYOUT)
    assert board.eta() == "20 s left in this round, at most 30 s in all"
    board.start("scaling", 1, 0)
    assert board.eta() == "30 s left"


def test_trials_side_by_side_divide_the_estimate(clock: Clock) -> None:
    def events(board: ProgressBoard) -> None:
        finish(board, spec(seed=0), 10.0)
        board.begin(spec(seed=1), LAYOUT)
        board.begin(spec(seed=2), LAYOUT)

    assert board_after(clock, events).remaining() == pytest.approx(9 * 10.0 / 2)


def test_a_trial_of_another_version_of_the_task_is_named_by_what_differs() -> None:
    task = {"model": {"class_path": "shop.Net", "init_args": {"width": 64, "depth": 2}}, "monitor": "val_loss"}
    own = {**task, "model": {"class_path": "shop.Net", "init_args": {"width": 128, "depth": 2, "dropout": 0.1}}}
    spec = TrialSpec(
        task=own,
        schedule=ScheduleSpec(name="cosine"),
        peak_lr=1e-3,
        global_batch_size=16,
        horizon=100,
        seed=0,
    )
    assert describe(spec, task) == "width 128, dropout 0.1, batch 16, LR 1e-3, cosine, seed 0"
    assert describe(spec, own) == describe(spec) == "batch 16, LR 1e-3, cosine, seed 0"
