"""Kill jobs, workers, ranks and drivers of a study that runs in SLURM jobs, and compare it with one of this machine.

    python tests/endurance/slurm_kill_and_resume.py --kills 100

It starts a SLURM of three nodes on the loopback interface. Every trial has two nodes of one rank. Victims: the driver
(kill -9, then the same command again), the worker that leads a job, the one on its other node, a process below a
worker (rank, forkserver or reaper), a worker that is stopped and so falls silent, and a job that is cancelled.
Afterwards, and after every kill, the following must hold, else the script ends with an AssertionError:

* a finished trial is neither lost nor changed: the bytes of its record and its trajectory stay;
* every file can be read, and none is half written;
* the records and every loss of every trajectory equal those of a study that ran undisturbed on this machine;
* no job and no process is left when a study ends, and nothing of the queue but logs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "launch" / "slurm")]

import loopback_cluster  # noqa: E402 -- it lies beside the tests of the launcher
from kill_and_resume import expect_equal, expect_readable, keep  # noqa: E402 -- so that this runs as a script too

del sys.path[:2]

RECIPE = """
name: endurance
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
layout: {devices: 1, num_nodes: 2, accelerator: cpu}
slurm: {time: 30m, max_jobs: 1, poll: 1, lost_after: 15}
experiments:
  equivalence: false
  range_test: false
  scaling: {batch_sizes: [32, 64], horizon: 2k examples, seeds: 1, validations: 2}
"""
VICTIMS = ("driver", "job", "worker", "follower", "below", "silent")
GAVE_UP = (2, 3)
"""Exit codes of a driver whose trials were lost again and again; the same command goes on."""
STUDY_LIMIT = 900.0
"""Seconds without a kill after which a study that has not finished counts as hanging."""
PAUSE = (3.0, 20.0)
"""Seconds between kills: a worker takes some to load torch, and must get to its trials now and then."""


@dataclass(slots=True)
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    studies: int = 0
    gave_up: int = 0
    jobs: int = 0


@contextmanager
def cluster() -> Iterator[None]:
    """Run a cluster and have this process submit to it."""
    with tempfile.TemporaryDirectory(prefix="lrscale-slurm-") as folder:
        os.environ.update(loopback_cluster.up(Path(folder), 3))
        try:
            yield
        finally:
            loopback_cluster.down(Path(folder))


class SlurmKiller:
    """Runs studies in SLURM jobs and kills what belongs to them.

    Parameters
    ----------
    home : Path
        Folder for the recipe and the studies.
    seed : int
        Seed of the choice of victims and moments.
    """

    def __init__(self, home: Path, seed: int) -> None:
        self.home = home
        self.tally = Tally()
        self._random = random.Random(seed)
        (home / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        package = str(HERE.parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def start(self, study: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start a driver."""
        return subprocess.Popen(
            [sys.executable, "-m", "lrscale", "run", "recipe.yaml", "--study", str(study), *options],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def undisturbed(self) -> Path:
        """Run a study on this machine to its end."""
        study = self.home / "undisturbed"
        assert self.start(study, "--devices", "2", "--num-nodes", "1").wait(timeout=STUDY_LIMIT) in (0, 1)
        return study

    def run(self, victims: Sequence[str], reference: Path) -> None:
        """Run studies until all of the victims have been killed, and compare each with the reference."""
        from lrscale.store import StudyFolder

        left = list(victims)
        while left:
            self.tally.studies += 1
            study = self.home / f"study-{self.tally.studies}"
            kept: dict[Path, bytes] = {}
            driver = self.start(study, "--launcher", "slurm")
            while True:
                code = self._ended(driver, self._random.uniform(*PAUSE) if left else STUDY_LIMIT)
                keep(study, kept)
                if code in (0, 1) and not any(record.retryable for record in StudyFolder(study).records().values()):
                    break
                assert code in (0, 1) or code is None or code in GAVE_UP, f"the driver ended with {code}"
                assert code is not None or left, "the study hangs"
                if code is not None:
                    self.tally.gave_up += 1
                    driver = self.start(study, "--launcher", "slurm")
                elif self._kill(left[-1], driver, study):
                    self.tally.kills[left[-1]] += 1
                    if left.pop() == "driver":
                        driver.wait()
                        driver = self.start(study, "--launcher", "slurm")
            self._expect_nothing_left(study)
            expect_readable(study)
            expect_equal(study, reference)
            self.tally.jobs += len(list((study / "slurm" / "logs").iterdir()))

    def _ended(self, driver: subprocess.Popen[bytes], within: float) -> int | None:
        try:
            return driver.wait(timeout=within)
        except subprocess.TimeoutExpired:
            return None

    def _kill(self, victim: str, driver: subprocess.Popen[bytes], study: Path) -> bool:
        """Kill a victim; False where there is none now."""
        from lrscale.launch.slurm.queue import JobQueue

        if victim == "driver":
            driver.kill()
            return True
        hearts = [one for one in JobQueue(study).hearts().values() if one["state"] != "closing"]
        try:
            worker = next(psutil.Process(one["process"]) for one in hearts if psutil.pid_exists(one["process"]))
            if victim == "job":
                job = next(one["job"] for one in hearts if one["process"] == worker.pid)
                subprocess.run(["scancel", job], check=True, timeout=60)
            elif victim == "worker":
                worker.kill()
            elif victim == "silent":
                worker.send_signal(signal.SIGSTOP)
            elif victim == "follower":
                next(one for one in self._processes(study, "worker") if one.pid != worker.pid).kill()
            else:
                self._random.choice(worker.children(recursive=True)).kill()
        except (StopIteration, IndexError, psutil.NoSuchProcess):
            return False
        return True

    def _processes(self, study: Path, word: str) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            # srun has the same words and a program of its own.
            if word in words and str(study.resolve()) in words and "python" in Path(words[0]).name:
                found.append(process)
        return found

    def _expect_nothing_left(self, study: Path) -> None:
        deadline = time.monotonic() + 30
        while listed := subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout:
            assert time.monotonic() < deadline, f"jobs are left: {listed}"
            time.sleep(0.5)
        while left := self._processes(study, "worker"):
            assert time.monotonic() < deadline, f"workers are left: {left}"
            time.sleep(0.5)
        assert [entry.name for entry in (study / "slurm").iterdir()] == ["logs"]


def check_slurm_endurance(home: Path, kills: int, seed: int = 0) -> Tally:
    """Run the whole comparison on a cluster that runs, and return what happened."""
    killer = SlurmKiller(home, seed)
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(kills)]
    random.Random(seed).shuffle(victims)
    killer.run(victims, killer.undisturbed())
    assert killer.tally.kills.total() == kills
    return killer.tally


def main() -> None:
    """Read the command line and print the tally."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="number of kills (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of victims and moments (default 0)")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lrscale-endurance-") as home, cluster():
        tally = check_slurm_endurance(Path(home), arguments.kills, arguments.seed)
    kills = ", ".join(f"{count} x {victim}" for victim, count in sorted(tally.kills.items()))
    print(
        f"{tally.kills.total()} kills ({kills}) over {tally.studies} studies and {tally.jobs} jobs in "
        f"{time.monotonic() - began:.0f} s; {tally.gave_up} times the driver gave up and was started again: nothing "
        "lost, nothing changed, no job and no process left"
    )


if __name__ == "__main__":
    main()
