"""The server, its ranks and its reaper as real processes, without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lrscale.errors import StudyError
from lrscale.launch.processes.forkserver import Forkserver
from lrscale.launch.processes.group import RankGroup, Share

from ..conftest import TASKS, descendants, eventually, is_running

Make = Callable[..., Forkserver]


def start(server: Forkserver, folder: Path, *jobs: str, key: str = "group", env: dict[str, str] | None = None) -> None:
    for rank, job in enumerate(jobs):
        log = str(folder / f"rank-{rank}.log")
        server.send(
            {"op": "start", "key": key, "rank": rank, "job": job, "log": log, "entry": "plain", "env": env or {}}
        )


def ends(server: Forkserver, count: int, *, within: float = 30.0) -> dict[int, int]:
    """Return the codes of the first `count` ranks to end."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + within
    while len(codes) < count and time.monotonic() < deadline:
        for event in server.events(0.1):
            if event["event"] == "lost":
                return codes
            codes[event["rank"]] = event["code"]
    return codes


def module(folder: Path, name: str, text: str) -> Path:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def reaper_of(server: Forkserver) -> int:
    assert server._process is not None
    return server._process.pid


def server_of(server: Forkserver) -> int:
    (child,) = psutil.Process(reaper_of(server)).children()
    return child.pid


def read_pid(path: Path) -> int:
    assert eventually(path.exists)
    return int(path.read_text())


def test_codes_tell_how_each_rank_ended(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    assert server.start() == []
    start(server, tmp_path, "nothing", "leave:3", "fail:wrong shape", "say_and_die:the last line", "crash")
    codes = ends(server, 5)
    assert codes == {0: 0, 1: 3, 2: 1, 3: -signal.SIGKILL, 4: -signal.SIGSEGV}
    assert "ValueError: wrong shape" in (tmp_path / "rank-2.log").read_text()
    assert (tmp_path / "rank-3.log").read_text() == "the last line\n"
    assert "Segmentation fault" in (tmp_path / "rank-4.log").read_text()


def test_an_entry_that_cannot_be_imported_ends_with_code_one(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    message = {"op": "start", "key": "k", "rank": 0, "job": "", "log": str(tmp_path / "log"), "entry": "no", "env": {}}
    server.send(message)
    assert ends(server, 1) == {0: 1}
    assert "ModuleNotFoundError" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_opened_ends_the_rank_and_not_the_server(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    start(server, tmp_path / "absent", "nothing")
    assert ends(server, 1) == {0: 1}
    start(server, tmp_path, "nothing")
    assert ends(server, 1) == {0: 0}


def test_what_torchrun_and_srun_said_of_the_driver_does_not_reach_its_ranks(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"RANK": "7", "TORCHELASTIC_USE_AGENT_STORE": "True", "SLURM_NTASKS": "8", "MASTER_PORT": "1", "KEPT": "yes"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    server = make_server()
    server.start()
    start(server, tmp_path, f"describe:{tmp_path / 'facts'}", env={"WORLD_SIZE": "2"})
    assert ends(server, 1) == {0: 0}
    seen = json.loads((tmp_path / "facts").read_text())["environment"]
    assert {name: seen.get(name) for name in (*said, "WORLD_SIZE")} == {
        **dict.fromkeys(said, None),
        "KEPT": "yes",
        "WORLD_SIZE": "2",
    }


def test_a_rank_starts_clean_and_leaves_nothing_to_the_next(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    for name in ("first", "second"):
        start(server, tmp_path, f"describe:{tmp_path / name}", env={"RANK": "0"})
        assert ends(server, 1) == {0: 0}, (tmp_path / "rank-0.log").read_text()
        facts = json.loads((tmp_path / name).read_text())
        opened = {number for number, target in facts["descriptors"].items() if target.startswith(("pipe:", "socket:"))}
        assert opened == set()
        assert facts["session"] and facts["interrupt"] and facts["hangup"]
        assert facts["input"] == ""
        assert facts["threads"] == 1
        assert facts["environment"]["RANK"] == "0"
        assert "LEFT_BEHIND" not in facts["environment"]


def test_paths_may_hold_spaces_and_newlines(make_server: Make, tmp_path: Path) -> None:
    folder = tmp_path / "a study\nwith 100% \u00fcnusual # name"
    folder.mkdir()
    server = make_server()
    server.start()
    start(server, folder, f"describe:{folder / 'facts'}")
    assert ends(server, 1) == {0: 0}
    assert (folder / "facts").exists()


def test_a_kill_right_after_the_start_reaches_every_rank(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    for attempt in range(8):
        start(server, tmp_path, "sleep:600", "deaf", key=str(attempt))
        server.send({"op": "kill", "key": str(attempt)})
        assert ends(server, 2) == {0: -9, 1: -9}


def test_a_rank_that_ignores_signals_is_ended_with_all_that_it_started(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    start(server, tmp_path, f"family:{tmp_path}")
    near, far = read_pid(tmp_path / "near.pid"), read_pid(tmp_path / "far.pid")
    server.send({"op": "kill", "key": "group"})
    assert ends(server, 1) == {0: -9}
    assert eventually(lambda: not is_running(near))
    server.stop()
    assert not is_running(far)


def test_what_a_rank_leaves_behind_ends_with_it(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    start(server, tmp_path, f"orphan:{tmp_path}")
    assert ends(server, 1) == {0: 0}
    left = read_pid(tmp_path / "near.pid")
    assert eventually(lambda: not is_running(left))


def test_ranks_write_their_stacks_when_asked(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    start(server, tmp_path, "sleep:600")
    log = tmp_path / "rank-0.log"

    def asked() -> bool:
        server.send({"op": "stacks", "key": "group"})
        return log.exists() and "in sleep" in log.read_text()

    time.sleep(0.3)
    assert eventually(asked)
    server.send({"op": "kill", "key": "group"})
    assert ends(server, 1) == {0: -9}


@pytest.mark.parametrize("victim", ["server", "reaper"])
def test_nothing_outlives_a_killed_server(make_server: Make, tmp_path: Path, victim: str) -> None:
    server = make_server()
    server.start()
    start(server, tmp_path, f"family:{tmp_path}", "deaf")
    read_pid(tmp_path / "far.pid")
    pids = [reaper_of(server), *descendants(reaper_of(server))]
    assert len(pids) == 6
    os.kill(server_of(server) if victim == "server" else reaper_of(server), signal.SIGKILL)
    assert ends(server, 2) == {}
    assert not server.running
    if victim == "server":
        assert [pid for pid in pids if is_running(pid)] == []
    else:
        # The kernel ends the server and the ranks; what they have started has nobody left to find it.
        assert eventually(lambda: not any(is_running(pid) for pid in pids[1:3]))
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
    server.start()
    start(server, tmp_path, "nothing")
    assert ends(server, 1) == {0: 0}


DRIVER = """
import sys, time
from pathlib import Path
from lrscale.launch.processes.forkserver import Forkserver
folder, core, patience = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
server = Forkserver(folder / "scratch", (), (sys.argv[4],), core=(core,))
server.start()
for rank, job in enumerate((f"family:{folder}", "deaf")):
    log = str(folder / f"rank-{rank}.log")
    server.send({"op": "start", "key": "k", "rank": rank, "job": job, "log": log, "entry": "plain", "env": {}})
(folder / "started").touch()
time.sleep(patience)
"""


def driver(folder: Path, core: str = "json", env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", DRIVER, str(folder), core, "600", str(TASKS)]
    return subprocess.Popen(command, env={**os.environ, **(env or {})}, start_new_session=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_a_driver(tmp_path: Path, number: int) -> None:
    process = driver(tmp_path)
    read_pid(tmp_path / "far.pid")
    pids = descendants(process.pid)
    assert len(pids) >= 5
    os.killpg(process.pid, number)
    process.wait(timeout=30)
    assert eventually(lambda: not any(is_running(pid) for pid in pids), within=10)
    assert eventually(lambda: not (tmp_path / "scratch").exists())


def test_nothing_outlives_a_driver_that_dies_while_a_module_is_still_loading(tmp_path: Path) -> None:
    module(tmp_path, "never", "import time\ntime.sleep(600)\n")
    process = driver(tmp_path, core="never", env={"PYTHONPATH": str(tmp_path)})
    assert eventually(lambda: len(descendants(process.pid)) == 2)
    time.sleep(0.2)
    pids = descendants(process.pid)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(is_running(pid) for pid in pids), within=10)


def test_nothing_outlives_a_driver_that_dies_at_any_moment(tmp_path: Path) -> None:
    for number, delay in enumerate((0.05, 0.15, 0.3, 0.45)):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = driver(folder, env={"LRSCALE_TEST_MARK": str(folder)})
        time.sleep(delay)
        process.kill()
        process.wait()
        assert eventually(lambda mark=str(folder): not marked(mark), within=10)  # type: ignore[misc]


def marked(mark: str) -> list[int]:
    """Return the processes that carry a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LRSCALE_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("victim", ["driver", "server"])
def test_nothing_outlives_them_where_the_kernel_does_not_watch_parents(tmp_path: Path, victim: str) -> None:
    # As on macOS: every prctl fails.
    module(
        tmp_path,
        "sitecustomize",
        """
        import ctypes
        class Library:
            def prctl(self, *_):
                return -1
        ctypes.CDLL = lambda *_, **__: Library()
        """,
    )
    process = driver(tmp_path, env={"PYTHONPATH": str(tmp_path)})
    read_pid(tmp_path / "far.pid")
    far = int((tmp_path / "far.pid").read_text())
    pids = [pid for pid in descendants(process.pid) if pid != far]
    if victim == "driver":
        process.kill()
        process.wait()
    else:
        (reaper,) = psutil.Process(process.pid).children()
        (server,) = reaper.children()
        server.kill()
    try:
        assert eventually(lambda: not any(is_running(pid) for pid in pids), within=10)
    finally:
        os.kill(far, signal.SIGKILL)
        process.kill()
        process.wait()


def test_a_module_that_starts_threads_is_left_to_the_ranks(make_server: Make, tmp_path: Path) -> None:
    module(tmp_path, "good", "")
    module(
        tmp_path,
        "threaded",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n",
    )
    server = make_server("good", "threaded", folder=tmp_path)
    assert server.start() == ["threaded is imported by each rank: importing it starts threads or CUDA"]
    assert psutil.Process(server_of(server)).num_threads() == 1
    start(server, tmp_path, "nothing")
    assert ends(server, 1) == {0: 0}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("raise RuntimeError('no data here')", "odd is imported by each rank: RuntimeError: no data here"),
        ("import sys\nsys.exit(4)", "odd is imported by each rank: SystemExit: 4"),
        (
            "import os\nprint('last words', flush=True)\nos._exit(5)",
            "the modules of the task are imported by each rank: last words",
        ),
        ("import os\nos.closerange(3, 256)", "the modules of the task are imported by each rank"),
    ],
)
def test_a_module_that_cannot_be_preloaded_is_left_to_the_ranks(
    make_server: Make, tmp_path: Path, text: str, note: str
) -> None:
    module(tmp_path, "odd", text)
    server = make_server("odd", folder=tmp_path)
    (told,) = server.start()
    assert told.startswith(note)
    start(server, tmp_path, "nothing")
    assert ends(server, 1) == {0: 0}


@pytest.mark.parametrize(
    "text",
    [
        "print('printed at import', end='')",
        "import sys\nassert sys.stdin.read() == ''",
        "import sys\nsys.stdout.close()",
        "import sys\nsys.stdout = sys.stderr = None",
        "import os\nos.chdir('/')",
        "import os\nos.environ['PATH'] = ''",
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'pass'])",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    ],
)
def test_what_a_module_does_at_import_disturbs_no_rank(make_server: Make, tmp_path: Path, text: str) -> None:
    module(tmp_path, "odd", text)
    server = make_server("odd", folder=tmp_path)
    assert server.start() == []
    for _ in range(2):
        start(server, tmp_path, "nothing", "leave:3")
        assert ends(server, 2) == {0: 0, 1: 3}
    assert (tmp_path / "rank-0.log").read_text() == ""


def test_a_server_that_cannot_load_its_core_says_why(tmp_path: Path) -> None:
    server = Forkserver(tmp_path / "scratch", (), (), core=("torch_of_another_kind",))
    with pytest.raises(StudyError, match=r"did not come up: .*No module named 'torch_of_another_kind'"):
        server.start()
    assert not server.running


def test_a_file_in_the_working_folder_shadows_nothing(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "lrscale", "server", "select"):
        module(tmp_path, name, "raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    server = make_server()
    assert server.start() == []


def test_hundreds_of_ranks_leave_no_descriptor_and_no_memory(make_server: Make, tmp_path: Path) -> None:
    server = make_server()
    server.start()
    processes = [psutil.Process(), psutil.Process(server_of(server)), psutil.Process(reaper_of(server))]

    def run(count: int) -> None:
        for _ in range(count):
            start(server, tmp_path, "nothing", "nothing")
            assert len(ends(server, 2)) == 2

    run(10)
    before = [(process.num_fds(), process.memory_info().rss) for process in processes]
    run(60)
    for process, (descriptors, memory) in zip(processes, before, strict=True):
        assert process.num_fds() == descriptors
        assert process.memory_info().rss < memory + 2_000_000


@pytest.fixture
def group_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "trial"
    folder.mkdir()
    yield folder


def run_group(
    server: Forkserver, folder: Path, *jobs: str, limit: float | None = None, monkeypatch: pytest.MonkeyPatch
) -> RankGroup:
    """Run a group whose ranks do different things, by the job that each finds under its number."""
    monkeypatch.setattr("lrscale.launch.processes.group.ENTRY", "plain_ranks")
    share = Share(server=server, ranks=range(len(jobs)), environment={"JOBS": json.dumps(jobs)})
    group = RankGroup([share], "group", folder, limit)
    group.start(folder / "job.json")
    while not group.ended:
        for event in server.events(0.05):
            group.take(server, event)
        group.watch()
    return group


def test_the_others_end_soon_after_a_rank_has_failed(
    make_server: Make, group_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrscale.launch.processes.group.GRACE", 0.3)
    server = make_server()
    server.start()
    group = run_group(server, group_folder, "sleep:600", "leave:3", monkeypatch=monkeypatch)
    assert list(group.codes.items()) == [(1, 3), (0, -9)]
    assert group.seconds < 20
    assert not group.timed_out


def test_rank_zero_may_take_its_time_after_the_others_are_done(
    make_server: Make, group_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrscale.launch.processes.group.GRACE", 0.2)
    server = make_server()
    server.start()
    group = run_group(server, group_folder, "sleep:1.5", "publish:completed", monkeypatch=monkeypatch)
    assert list(group.codes.items()) == [(1, 0), (0, 0)]
    group = run_group(server, group_folder, "sleep:600", "publish:out_of_memory", monkeypatch=monkeypatch)
    assert list(group.codes.items()) == [(1, 0), (0, -9)]


def test_a_group_out_of_time_writes_its_stacks_and_is_killed(
    make_server: Make, group_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    server.start()
    group = run_group(server, group_folder, "sleep:600", "deaf", limit=0.5, monkeypatch=monkeypatch)
    assert group.timed_out
    assert group.codes == {0: -9, 1: -9}
    assert 0.5 < group.seconds < 20
    assert "in deaf" in (group_folder / "rank-1.log").read_text()


def test_a_group_ends_with_its_server(make_server: Make, group_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make_server()
    server.start()
    os.kill(server_of(server), signal.SIGKILL)
    group = run_group(server, group_folder, "sleep:600", "sleep:600", monkeypatch=monkeypatch)
    assert group.codes == {0: -9, 1: -9}
    assert not server.send({"op": "kill", "key": "group"})
