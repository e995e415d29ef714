"""The queue: no ticket is lost, none is claimed twice, whatever order things happen in and whoever dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrscale.errors import StudyError
from lrscale.launch.slurm.queue import PARTS, Claim, JobQueue
from lrscale.launch.slurm.ticket import Ticket

WORKERS = ("1", "2", "3")


def ticket(number: int) -> Ticket:
    return Ticket(name=f"trial{number}", work={"kind": "train", "number": number})


def opened(folder: Path) -> JobQueue:
    queue = JobQueue(folder)
    queue.open()
    return queue


class QueueMachine(RuleBasedStateMachine):
    """Any interleaving of a driver and workers, of which some are taken for dead and go on all the same."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.queue = opened(Path(self._folder.name))
        self.asked: dict[str, int] = {}
        self.ended: set[str] = set()
        self.withdrawn: set[str] = set()
        self.believed: list[Claim] = []
        """Claims that workers think they hold."""

    def teardown(self) -> None:
        self._folder.cleanup()

    @rule(number=st.integers(0, 5))
    def ask(self, number: int) -> None:
        wanted = ticket(number)
        if wanted.key not in self.ended:
            self.queue.put([(number, wanted)])
            self.asked[wanted.key] = number
            self.withdrawn.discard(wanted.key)

    @rule(worker=st.sampled_from(WORKERS), data=st.data())
    def claim(self, worker: str, data: st.DataObject) -> None:
        # A worker may have seen the queue some time ago.
        seen = sorted(self.asked)
        if not seen:
            return
        key = data.draw(st.sampled_from(seen))
        was_waiting = key in self.queue.waiting()
        earlier = Claim(self.asked[key], key, worker) in self.believed
        if earlier:
            return
        claim = self.queue.claim(key, self.asked[key], worker)
        assert (claim is not None) == was_waiting
        if claim is not None:
            assert self.queue.claimed_ticket(claim) == ticket(self.asked[key])
            self.believed.append(claim)

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.believed))
        self.believed.remove(claim)
        (self.queue.run_folder(claim) / "trajectory.jsonl").write_text("{}\n")
        self.queue.finish(claim, {"by": claim.worker})
        self.ended.add(claim.key)

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.believed))
        self.believed.remove(claim)
        stood = self.queue.holds(claim)
        assert self.queue.give_back(claim, {"cause": "time"}) == stood

    @precondition(lambda self: self.believed)
    @rule(data=st.data())
    def take_for_dead(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.believed))
        self.queue.give_back(claim, {"cause": "GONE"})

    @rule(number=st.integers(0, 5))
    def withdraw(self, number: int) -> None:
        key = ticket(number).key
        was_waiting = key in self.queue.waiting()
        assert self.queue.withdraw(key) == was_waiting
        if was_waiting:
            self.withdrawn.add(key)

    @invariant()
    def nothing_is_lost_and_nothing_is_twice(self) -> None:
        waiting, claimed, done = self.queue.waiting(), self.queue.claimed(), self.queue.done()
        for key in self.asked:
            places = (key in waiting) + len(claimed.get(key, ()))
            assert places <= 1
            assert places == 1 or key in done or key in self.withdrawn
        assert self.ended == set(done)
        for key, claim in done.items():
            outcome = self.queue.outcome(claim)
            assert outcome is not None
            assert outcome["by"] == claim.worker
            assert key == claim.key


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=30, stateful_step_count=30)


# Forks of a process without threads, started once.
PROCESSES = multiprocessing.get_context("forkserver")


def _claim_all(folder: str, worker: str, together: Any, found: Any) -> None:
    queue = JobQueue(Path(folder))
    together.wait(60)
    mine = []
    while waiting := queue.waiting():
        for key, place in waiting.items():
            if queue.claim(key, place, worker) is not None:
                mine.append(key)
    found.put((worker, mine))


def test_each_ticket_is_claimed_once_by_many_processes(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put((number, ticket(number)) for number in range(60))
    found: Any = PROCESSES.Queue()
    together = PROCESSES.Barrier(4)
    workers = [
        PROCESSES.Process(target=_claim_all, args=(str(tmp_path), str(number), together, found)) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    got = dict(found.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    claimed = [key for keys in got.values() for key in keys]
    assert sorted(claimed) == sorted(ticket(number).key for number in range(60))
    assert {key: claims[0].worker for key, claims in queue.claimed().items()} == {
        key: worker for worker, keys in got.items() for key in keys
    }


def _give_back_until_killed(folder: str, began: Any) -> None:
    queue = JobQueue(Path(folder))
    began.set()
    while True:
        for key, place in queue.waiting().items():
            claim = queue.claim(key, place, "7")
            if claim is not None:
                queue.give_back(claim, {"cause": "time"})


@pytest.mark.parametrize("seconds", [0.0, 0.011, 0.023, 0.047])
def test_a_worker_killed_anywhere_leaves_each_ticket_in_one_place(tmp_path: Path, seconds: float) -> None:
    queue = opened(tmp_path)
    queue.put((number, ticket(number)) for number in range(5))
    began = PROCESSES.Event()
    worker = PROCESSES.Process(target=_give_back_until_killed, args=(str(tmp_path), began))
    worker.start()
    assert began.wait(60)
    time.sleep(seconds)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    for claims in queue.claimed().values():
        for claim in claims:
            assert queue.give_back(claim, {"cause": "GONE"})
    assert list(queue.waiting()) == [ticket(number).key for number in range(5)]


def test_tickets_are_taken_in_the_order_of_asking_and_keep_their_place(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put(enumerate([ticket(3), ticket(1), ticket(2)]))
    assert list(queue.waiting()) == [ticket(number).key for number in (3, 1, 2)]
    claim = queue.claim(ticket(3).key, 0, "1")
    assert claim is not None
    queue.give_back(claim, {"cause": "NODE_FAIL", "job": "1"})
    assert list(queue.waiting()) == [ticket(number).key for number in (3, 1, 2)]
    assert queue.past(ticket(3).key) == [{"cause": "NODE_FAIL", "job": "1"}]


def test_a_worker_that_was_given_up_can_still_publish_and_harms_nobody(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put([(0, ticket(0))])
    key = ticket(0).key
    first = queue.claim(key, 0, "1")
    assert first is not None
    queue.give_back(first, {"cause": "GONE"})
    second = queue.claim(key, 0, "2")
    assert second is not None
    assert queue.run_folder(first) != queue.run_folder(second)
    queue.finish(first, {"by": "1"})
    assert queue.done()[key].worker == "1"
    assert queue.holds(second)
    queue.forget(key)
    assert not queue.run_folder(first).exists()
    assert queue.run_folder(second).exists()
    queue.finish(second, {"by": "2"})
    queue.forget(key)
    assert not any(any((queue.folder / part).iterdir()) for part in PARTS)


def test_a_ticket_that_was_tampered_with_is_not_run(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put([(0, ticket(0))])
    key = ticket(0).key
    path = next((queue.folder / "waiting").iterdir())
    plain = json.loads(path.read_text())
    plain["work"]["number"] = 1
    path.write_text(json.dumps(plain))
    assert queue.ticket(key, 0) is None
    claim = queue.claim(key, 0, "1")
    assert claim is not None
    with pytest.raises(StudyError, match="changed since"):
        queue.claimed_ticket(claim)


@pytest.mark.parametrize(
    "name",
    ["000000.../../../x.json", "000001.a@../b.json", "1.a.json", ".000000.a-b.json.7.partial", "000000.a b.json"],
)
def test_names_that_lead_elsewhere_are_no_tickets(tmp_path: Path, name: str) -> None:
    queue = opened(tmp_path)
    target = queue.folder / "waiting" / name.replace("/", "_")
    target.write_text("{}")
    assert queue.waiting() == {}
    with pytest.raises(StudyError, match="cannot be called"):
        queue.heart_path("../../x")


def test_only_the_owner_may_write_to_the_queue(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        queue = opened(tmp_path)
    finally:
        os.umask(before)
    for folder in (queue.folder, *(queue.folder / part for part in PARTS)):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0


def test_forgetting_an_attempt_leaves_nothing_of_it_and_all_of_the_others(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put((number, ticket(number)) for number in range(3))
    first, second = (queue.claim(ticket(number).key, number, "1") for number in (0, 1))
    assert first is not None
    assert second is not None
    queue.finish(first, {})
    queue.forget(first.key, first)
    assert queue.done() == {}
    assert not queue.run_folder(first).exists()
    assert queue.run_folder(second).exists()
    assert queue.holds(second)
    assert list(queue.waiting()) == [ticket(2).key]


def test_a_ticket_that_a_power_cut_has_emptied_is_written_anew(tmp_path: Path) -> None:
    queue = opened(tmp_path)
    queue.put([(0, ticket(0)), (1, ticket(1))])
    torn = queue.folder / "waiting" / f"000000.{ticket(0).key}.json"
    torn.write_text("")
    assert queue.ticket(ticket(0).key, 0) is None
    queue.put([(7, ticket(0)), (8, ticket(1))])
    assert queue.waiting() == {ticket(1).key: 1, ticket(0).key: 7}
    assert queue.ticket(ticket(0).key, 7) == ticket(0)
