"""What torchrun and srun tell, and what only looks like it."""

from __future__ import annotations

import socket

import pytest

from lrscale.errors import StudyError
from lrscale.launch.nodes import detect
from lrscale.launch.nodes.network import interface_of, own_address

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "1",
    "MASTER_ADDR": "10.1.2.3", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0", "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_LAUNCH_NODE_IPADDR": "10.1.2.9",
    "SLURM_STEP_NUM_NODES": "3",
}  # fmt: skip


def test_torchrun_is_told_by_its_own_variables_also_inside_of_slurm() -> None:
    found = detect({**SRUN, **TORCHRUN})
    assert found is not None
    assert (found.kind, found.rank, found.world_size) == ("torchrun", 5, 8)
    assert (found.local_rank, found.local_world_size, found.node) == (1, 4, 1)
    assert (found.leads, found.acts, found.one_node) == (False, False, False)
    assert found.meeting_hint == "10.1.2.3"
    assert found.num_nodes == 2


def test_a_task_of_srun_knows_its_node_and_how_many_share_it() -> None:
    found = detect(SRUN)
    assert found is not None
    assert (found.kind, found.rank, found.world_size) == ("srun", 4, 5)
    assert (found.local_rank, found.local_world_size, found.node) == (0, 1, 2)
    assert (found.leads, found.acts) == (False, True)
    assert found.meeting_hint == "10.1.2.9"
    assert found.num_nodes == 3


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "4"},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        # A batch script, the shell of salloc, and a step of one task.
        {**SRUN, "SLURM_STEP_ID": str(0xFFFFFFFB)},
        {**SRUN, "SLURM_STEP_ID": str(0xFFFFFFFA)},
        {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
)
def test_a_process_that_was_started_alone_is_in_no_group(environ: dict[str, str]) -> None:
    assert detect(environ) is None


def test_variables_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(StudyError, match="GROUP_RANK is 'one' and must be a number; unset GROUP_RANK"):
        detect({**TORCHRUN, "GROUP_RANK": "one"})


def test_the_token_is_that_of_the_group_and_of_no_other() -> None:
    def token(**changes: str) -> str:
        found = detect({**TORCHRUN, **changes})
        assert found is not None
        return found.token

    assert token(RANK="0", LOCAL_RANK="0", GROUP_RANK="0") == token()
    others = [token(MASTER_PORT="29501"), token(TORCHELASTIC_RUN_ID="x"), token(TORCHELASTIC_RESTART_COUNT="1")]
    assert len({token(), *others}) == 4


def test_nodes_of_one_machine_talk_over_loopback_and_others_over_the_network_that_they_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert own_address("127.0.0.1") == own_address("localhost") == "127.0.0.1"
    here = own_address(None)
    assert own_address(here) == here
    assert interface_of(here) is not None
    assert interface_of("192.0.2.1") is None


def test_the_interface_that_the_user_names_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = interface_of("127.0.0.1")
    assert loopback in dict.fromkeys(name for _, name in socket.if_nameindex())
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", loopback or "")
    assert own_address("192.0.2.1") == "127.0.0.1"
