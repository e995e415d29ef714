"""Kill a study at random, run the same command again, and compare what it leaves with an undisturbed run.

    python tests/endurance/kill_and_resume.py --kills 200 [--nodes 2]

Victims of ``kill -9``: the driver, a rank, the forkserver, the reaper above it, or all processes at once in random
order. With two nodes, which are both this machine, every trial spans both, and the follower is a victim too. When a
study has finished before the kills are spent, the next one begins in a fresh folder. Afterwards, and after every kill,
the following must hold, else the script ends with an AssertionError:

* a finished trial is neither lost nor changed: the bytes of its record and its trajectory stay;
* no process outlives its driver;
* every file can be read, and none is half written;
* the records (status, losses, steps) and every loss of every trajectory equal those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import psutil

RECIPE = """
name: endurance
task:
  model: {class_path: lrscale.zoo.DigitsMLP, init_args: {width: 16}}
  data: {class_path: lrscale.zoo.Digits}
  monitor: val_loss
layout: {devices: DEVICES, num_nodes: NODES, accelerator: cpu}
experiments:
  range_test: {seeds: 2, steps: 40}
  scaling: {batch_sizes: [32, 64], horizon: 2k examples, seeds: 1, validations: 2}
"""
MARK = "LRSCALE_ENDURANCE"
"""Variable by which every process of a study is known, whatever its parent."""
VICTIMS = ("driver", "rank", "rank", "server", "reaper", "group")
"""Ranks come twice: they are killed in the middle of their work most often in real life."""
NODE_VICTIMS = ("driver", "rank", "follower", "server", "reaper", "group")
"""Those of two nodes."""
COMPARED = ("status", "final_loss", "best_loss", "initial_loss", "monitor", "steps", "examples")
LOST = 3
"""Exit code of ``lrscale run`` where trials were killed again and again, and are to be run once more."""
GONE_WITHIN = 15.0
"""Seconds until everything below a dead driver must be gone; it takes milliseconds on an idle machine."""
STUDY_LIMIT = 600.0
"""Seconds without a kill after which a study that has not finished counts as hanging."""


def drive(recipe: Path, study: Path) -> None:
    """Run the study in this process, as ``lrscale run`` does."""
    from lrscale.errors import StudyError, TrialsFailedError
    from lrscale.launch import AllocationLauncher, LaunchSettings, LocalLauncher, SilentProgress
    from lrscale.launch.nodes import detect, follow
    from lrscale.recipe import load_recipe
    from lrscale.store import StudyFolder
    from lrscale.study import Study

    loaded = load_recipe(recipe)
    settings = LaunchSettings(root=loaded.root, preload=("lrscale.zoo.digits",), accelerator="cpu", study=study)
    allocation = detect(os.environ)
    if allocation is not None and not allocation.leads:
        raise SystemExit(follow(allocation, study))
    try:
        with LocalLauncher(settings) if allocation is None else AllocationLauncher(settings) as launcher:
            outcome = Study(loaded, StudyFolder(study)).run(launcher, progress=SilentProgress())
    except (TrialsFailedError, StudyError) as error:
        # All that ran was lost to the killer, twice; the same command goes on.
        raise SystemExit(LOST) from error
    if outcome.lost:
        raise SystemExit(LOST)


@dataclass(slots=True)
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    studies: int = 0
    restarts: int = 0
    slowest_end: float = 0.0
    """Longest time from a driver's end to the end of its last process, seconds."""


class Killer:
    """Runs studies and kills them.

    Parameters
    ----------
    home : Path
        Folder for the recipe and the studies.
    seed : int
        Seed of the choice of victims and moments.
    nodes : int, optional
        Nodes of every trial, 1 or 2. Default 1.
    say : callable, optional
        Told how far it is. Default: nobody is.
    """

    def __init__(self, home: Path, seed: int, nodes: int = 1, say: Callable[[str], None] = lambda _line: None) -> None:
        self.home = home
        self._say = say
        self.tally = Tally()
        self._random = random.Random(seed)
        self._mark = f"{os.getpid()}-{time.time_ns()}"
        self._recipe = home / "recipe.yaml"
        recipe = RECIPE.replace("DEVICES", str(2 // nodes)).replace("NODES", str(nodes))
        self._recipe.write_text(recipe, encoding="utf-8")
        self._nodes = nodes
        self._follower: subprocess.Popen[bytes] | None = None

    def start(self, study: Path) -> subprocess.Popen[bytes]:
        """Start the driver, and below two nodes its follower."""
        if self._follower is not None:
            self._follower.wait(timeout=STUDY_LIMIT)
        started = [
            subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "drive", str(self._recipe), str(study)],
                env={**os.environ, MARK: self._mark, "OMP_NUM_THREADS": "1", **self._place(node)},
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            for node in range(self._nodes)
        ]
        self._follower = started[1] if self._nodes > 1 else None
        return started[0]

    def _place(self, node: int) -> dict[str, str]:
        """Return what torchrun would tell the only process of a node."""
        if self._nodes == 1:
            return {}
        told = {"RANK": node, "WORLD_SIZE": self._nodes, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "GROUP_RANK": node}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": self._mark}
        return {**{name: str(value) for name, value in told.items()}, **meeting}

    def undisturbed(self) -> Path:
        """Run a study to its end."""
        study = self.home / "undisturbed"
        assert self.start(study).wait(timeout=STUDY_LIMIT) == 0
        self.expect_no_process()
        return study

    def run(self, kills: int, check: Callable[[Path], None], victims: Sequence[str] = VICTIMS) -> None:
        """Run studies, with so many kills in all, and give each finished one to `check`."""
        planned = [victims[number % len(victims)] for number in range(kills)]
        self._random.shuffle(planned)
        while planned:
            self.tally.studies += 1
            study = self.home / f"study-{self.tally.studies}"
            kept: dict[Path, bytes] = {}
            code: int | None = None
            while code != 0:
                self.tally.restarts += 1
                driver = self.start(study)
                while planned and self._kill(driver, planned[-1]):
                    planned.pop()
                    keep(study, kept)
                    if driver.poll() is not None:
                        break
                code = driver.wait(timeout=STUDY_LIMIT)
                assert code in (0, LOST, -9), f"the driver ended with {code}"
                self.expect_no_process()
                keep(study, kept)
                left, trials = len(planned), len(list(study.glob("trials/*/record.json")))
                self._say(f"{kills - left} of {kills} kills; {study.name} ended with {code}, {trials} records")
            check(study)

    def expect_no_process(self) -> None:
        """Wait until no process of the study is left."""
        began = time.monotonic()
        while self._processes():
            assert time.monotonic() - began < GONE_WITHIN, f"left behind: {self._processes()}"
            time.sleep(0.01)
        self.tally.slowest_end = max(self.tally.slowest_end, time.monotonic() - began)

    def _kill(self, driver: subprocess.Popen[bytes], victim: str) -> bool:
        """Kill a victim at a random moment; False when the study ended before."""
        # From before the first import of torch to the middle of a trial.
        pause = self._random.choice((self._random.uniform(0, 1), self._random.uniform(0, 6)))
        try:
            driver.wait(timeout=pause)
            return False
        except subprocess.TimeoutExpired:
            pass
        while not (pids := self._pids(driver, victim)):
            if driver.poll() is not None:
                return False
            time.sleep(0.02)
        self._random.shuffle(pids)
        for pid in pids if victim == "group" else pids[:1]:
            try:
                psutil.Process(pid).kill()
            except psutil.NoSuchProcess:
                if victim != "group":
                    return driver.poll() is None and self._kill(driver, victim)
        self.tally.kills[victim] += 1
        if victim in ("driver", "group"):
            driver.wait(timeout=STUDY_LIMIT)
        return True

    def _pids(self, driver: subprocess.Popen[bytes], victim: str) -> list[int]:
        try:
            tops = [psutil.Process(driver.pid)]
            if victim == "driver":
                return [driver.pid]
            if self._follower is not None and self._follower.poll() is None:
                tops.append(psutil.Process(self._follower.pid))
            if victim == "follower":
                # One that is killed before it has come is waited for, which takes minutes.
                return [top.pid for top in tops[1:] if top.children()]
            if victim == "group":
                return [process.pid for top in tops for process in (top, *top.children(recursive=True))]
            depth = {"reaper": 1, "server": 2, "rank": 3}[victim]
            found = tops
            for _ in range(depth):
                found = [child for process in found for child in process.children()]
            return [process.pid for process in found]
        except psutil.NoSuchProcess:
            return []

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self._mark:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
            except psutil.Error:
                continue
        return found


def keep(study: Path, kept: dict[Path, bytes]) -> None:
    """Compare every finished trial with what it was, and remember the new ones."""
    for path, content in kept.items():
        assert path.exists(), f"{path} was lost"
        assert path.read_bytes() == content, f"{path} was changed"
    for path in study.glob("trials/*/record.json"):
        if path in kept:
            continue
        if json.loads(path.read_bytes())["retryable"]:
            # A lost rank: the next run of the same command tries it again.
            continue
        for name in ("record.json", "trajectory.parquet", "spec.json"):
            kept[path.with_name(name)] = path.with_name(name).read_bytes()


def expect_readable(study: Path) -> None:
    """Read every file of a finished study."""
    from lrscale.store import StudyFolder

    folder = StudyFolder(study)
    folder.read_plan()
    for trial_id in folder.trial_ids():
        assert folder.spec(trial_id).trial_id == trial_id
        assert len(folder.trajectory(trial_id)) > 0
        assert not (folder.trial_path(trial_id) / "trajectory.jsonl").exists()
    for path in study.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    assert [path for path in study.rglob("*") if path.name.endswith(".partial")] == []


def expect_equal(study: Path, reference: Path) -> None:
    """Compare what two studies found: every record, every loss, and what was asked of them."""
    from lrscale.store import StudyFolder

    found, expected = StudyFolder(study), StudyFolder(reference)
    records, wanted = found.records(), expected.records()
    assert records.keys() == wanted.keys()
    for trial_id, record in records.items():
        for name in COMPARED:
            ours, theirs = getattr(record, name), getattr(wanted[trial_id], name)
            assert ours == theirs, f"{trial_id}: {name} is {ours} and was {theirs}"
        ours_rows, their_rows = found.trajectory(trial_id), expected.trajectory(trial_id)
        for column in ("step", "examples", "lr", "train_loss", "val_loss"):
            np.testing.assert_array_equal(ours_rows[column], their_rows[column], err_msg=f"{trial_id}: {column}")


def check_endurance(
    home: Path,
    kills: int,
    seed: int = 0,
    victims: Sequence[str] = VICTIMS,
    nodes: int = 1,
    say: Callable[[str], None] = lambda _line: None,
) -> Tally:
    """Run the whole comparison and return what happened."""
    killer = Killer(home, seed, nodes, say)
    reference = killer.undisturbed()
    expect_readable(reference)

    def check(study: Path) -> None:
        expect_readable(study)
        expect_equal(study, reference)

    killer.run(kills, check, victims)
    assert killer.tally.kills.total() == kills
    return killer.tally


def main() -> None:
    """Read the command line and print the tally."""
    if sys.argv[1:2] == ["drive"]:
        drive(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="number of kill -9 (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of victims and moments (default 0)")
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="nodes of every trial (default 1)")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lrscale-endurance-") as home:
        victims = VICTIMS if arguments.nodes == 1 else NODE_VICTIMS
        say = partial(print, flush=True)
        tally = check_endurance(Path(home), arguments.kills, arguments.seed, victims, arguments.nodes, say)
    kills = ", ".join(f"{count} x {victim}" for victim, count in sorted(tally.kills.items()))
    print(
        f"{tally.kills.total()} kills ({kills}) over {tally.studies} studies and {tally.restarts} starts in "
        f"{time.monotonic() - began:.0f} s: nothing lost, nothing changed, no process left; "
        f"the last process was gone {tally.slowest_end:.2f} s after its driver at most"
    )


if __name__ == "__main__":
    main()
