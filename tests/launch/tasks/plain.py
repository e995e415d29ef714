"""Ranks without torch, so that a test of processes takes a moment: the job names what to do."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(job: str) -> int:
    what, _, rest = job.partition(":")
    return int(ACTS[what](rest) or 0)


def sleep(seconds: str) -> None:
    time.sleep(float(seconds))


def leave(code: str) -> None:
    os._exit(int(code))


def say_and_die(words: str) -> None:
    print(words)
    os.kill(os.getpid(), signal.SIGKILL)


def crash(_: str) -> None:
    faulthandler._sigsegv()


def fail(words: str) -> None:
    raise ValueError(words)


def deaf(_: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def family(folder: str) -> None:
    """Start a child in this session and one in its own, then wait for ever."""
    for name, alone in (("near", False), ("far", True)):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=alone)
        (Path(folder) / f"{name}.part").write_text(str(child.pid))
        (Path(folder) / f"{name}.part").rename(Path(folder) / f"{name}.pid")
    time.sleep(600)


def orphan(folder: str) -> None:
    """Leave a child behind."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / "near.pid").write_text(str(child.pid))


def describe(path: str) -> None:
    """Write down what a rank has inherited."""
    facts = {
        "descriptors": {entry: os.readlink(f"/proc/self/fd/{entry}") for entry in _open_descriptors()},
        "session": os.getsid(0) == os.getpid(),
        "interrupt": signal.getsignal(signal.SIGINT) is signal.SIG_DFL,
        "hangup": signal.getsignal(signal.SIGHUP) is signal.SIG_DFL,
        "environment": dict(os.environ),
        "input": sys.stdin.read(),
        "threads": len(os.listdir("/proc/self/task")),
    }
    os.environ["LEFT_BEHIND"] = "1"
    Path(path).write_text(json.dumps(facts))


def _open_descriptors() -> list[str]:
    found = []
    for entry in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{entry}") or os.path.islink(f"/proc/self/fd/{entry}"):
            found.append(entry)
    return found


def nothing(_: str) -> None:
    return None


ACTS = {
    "crash": crash,
    "deaf": deaf,
    "describe": describe,
    "fail": fail,
    "family": family,
    "leave": leave,
    "nothing": nothing,
    "orphan": orphan,
    "say_and_die": say_and_die,
    "sleep": sleep,
}
