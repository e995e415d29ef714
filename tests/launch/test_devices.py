from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrscale.errors import LayoutError
from lrscale.launch.devices import DevicePool, cpu_count, free_port, resolve_accelerator, visible_gpus
from lrscale.launch.job import World, group_environment, rank_threads


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,1", ["0", "1"]),
        (" 3 ", ["3"]),
        ("", []),
        ("-1", []),
        ("0,-1,2", ["0"]),
        ("GPU-8f,MIG-2", ["GPU-8f", "MIG-2"]),
    ],
)
def test_the_variable_decides_which_gpus_are_visible(
    monkeypatch: pytest.MonkeyPatch, text: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_gpus() == names


def fake_smi(folder: Path, script: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo '  MIG 1g.10gb Device 0:'; echo 'GPU 1: x'", ["0", "1"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
        ("true", []),
    ],
)
def test_without_the_variable_the_driver_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: list[str]
) -> None:
    fake_smi(tmp_path, script)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert visible_gpus() == names
    assert resolve_accelerator("auto") == ("gpu" if names else "cpu")


def test_a_gpu_that_is_asked_for_and_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolve_accelerator("cpu") == "cpu"
    with pytest.raises(LayoutError, match=r"no GPU is visible; set layout\.accelerator: cpu"):
        resolve_accelerator("gpu")


def test_a_layout_beyond_the_machine_is_refused_with_the_counts() -> None:
    pool = DevicePool("gpu", ["0", "1", "2", "3"])
    pool.check(2, 2)
    with pytest.raises(LayoutError, match="3 trials at once x 2 devices need 6 GPUs; 4 are visible"):
        pool.check(2, 3)
    with pytest.raises(LayoutError, match="8 devices need 8 GPUs; 4 are visible"):
        pool.check(8, 1)
    DevicePool("cpu").check(64, 64)
    assert DevicePool("cpu").take(64) == ()
    assert DevicePool("cpu", ["0", "1"]).take(3) is None


@given(st.lists(st.integers(1, 5), max_size=30), st.integers(0, 8), st.randoms(use_true_random=False))
def test_no_gpu_is_lent_twice_and_none_is_lost(sizes: list[int], count: int, random: object) -> None:
    names = [str(number) for number in range(count)]
    pool = DevicePool("gpu", names)
    lent: list[tuple[str, ...]] = []
    for size in sizes:
        taken = pool.take(size)
        if taken is None:
            assert size > count - sum(map(len, lent))
            if lent:
                pool.give_back(lent.pop(random.randrange(len(lent))))  # type: ignore[attr-defined]
        else:
            lent.append(taken)
        out = [name for group in lent for name in group]
        assert len(out) == len(set(out)) <= count
    for group in lent:
        pool.give_back(group)
    assert pool.take(count) == tuple(names)


def test_threads_are_a_fair_share_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert rank_threads(8) == 3
    for unset in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unset)
        assert rank_threads(1) == cpu_count()
        assert rank_threads(1000) == 1
        assert rank_threads(2, cores=8) == 4


def test_the_environment_is_torchelastics_and_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    world = World(key="ab-1", world_size=2, local_world_size=2, port=5)
    found = group_environment(world, threads=1, gpus=("2", "3"), extra={"NCCL_DEBUG": "INFO", "MASTER_PORT": "7"})
    assert found["TORCHELASTIC_RUN_ID"] == "ab-1"
    assert found["WORLD_SIZE"] == found["LOCAL_WORLD_SIZE"] == "2"
    assert found["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert (found["NCCL_DEBUG"], found["MASTER_PORT"]) == ("INFO", "7")
    assert "CUDA_VISIBLE_DEVICES" not in group_environment(world, threads=1, gpus=(), extra=None)


def test_the_second_node_of_a_group_is_told_its_place() -> None:
    world = World(
        key="k", world_size=4, local_world_size=2, master="10.0.0.1", port=5, node=1, nodes=2, interface="ib0"
    )
    found = group_environment(world, threads=1, gpus=(), extra=None)
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "5")
    assert (found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"]) == ("4", "2")
    assert (found["GROUP_RANK"], found["GROUP_WORLD_SIZE"]) == ("1", "2")


def test_a_free_port_can_be_used() -> None:
    assert 1024 < free_port() < 65536
