"""The connection of two processes that know the same secret, and everyone whom it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrscale.errors import StudyError
from lrscale.launch.nodes import Allocation, Gathering
from lrscale.launch.nodes import channel as channel_module
from lrscale.launch.nodes.channel import Channel, RefusedError, listen
from lrscale.launch.nodes.meeting import join, meeting_path

SECRET = b"s" * 32


def pair(secret: bytes = SECRET, other: bytes = SECRET) -> tuple[Channel, Channel]:
    """Return the leader's and the member's end."""
    door = listen("127.0.0.1")
    ends: list[Channel | Exception] = []

    def accept() -> None:
        link, _ = door.accept()
        try:
            ends.append(Channel.accept(link, secret))
        except (OSError, RefusedError) as error:
            link.close()
            ends.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        member = Channel.connect("127.0.0.1", door.getsockname()[1], other)
    finally:
        thread.join()
        door.close()
    assert isinstance(ends[0], Channel), ends[0]
    return ends[0], member


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    leader, member = pair()
    yield leader, member
    leader.close()
    member.close()


def arrived(channel: Channel, count: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    while len(found) < count:
        found += channel.receive(5.0)
    return found


def test_messages_arrive_whole_and_in_order_both_ways(ends: tuple[Channel, Channel]) -> None:
    leader, member = ends
    long = {"text": "\u00fc" * 300_000}
    sender = threading.Thread(target=lambda: [leader.send({"n": 1}), leader.send(long), leader.send({"n": 2})])
    sender.start()
    assert arrived(member, 3) == [{"n": 1}, long, {"n": 2}]
    sender.join()
    assert member.send({"back": None})
    assert arrived(leader, 1) == [{"back": None}]
    assert leader.receive(0.01) == []


def test_an_end_that_closes_is_told_at_once(ends: tuple[Channel, Channel]) -> None:
    leader, member = ends
    member.close()
    began = time.monotonic()
    with pytest.raises(EOFError):
        leader.receive(30.0)
    assert time.monotonic() - began < 5
    assert not member.send({"late": 1})


def test_another_secret_is_refused_by_both_ends() -> None:
    with pytest.raises(RefusedError, match="does not know the study's secret"):
        pair(other=b"t" * 32)


def test_a_message_that_was_changed_on_its_way_ends_the_connection() -> None:
    # In the middle sits one that passes everything on, and changes one byte after the greeting.
    door = listen("127.0.0.1")
    middle = listen("127.0.0.1")
    ends: list[Channel] = []
    leader = threading.Thread(target=lambda: ends.append(Channel.accept(door.accept()[0], SECRET)))

    def pass_on() -> None:
        with socket.create_connection(door.getsockname()) as inner, middle.accept()[0] as outer:
            inner.sendall(outer.recv(1000))
            outer.sendall(inner.recv(1000))
            inner.sendall(outer.recv(1000))
            message = bytearray(outer.recv(1000))
            message[-2] ^= 1
            inner.sendall(message)

    thread = threading.Thread(target=pass_on)
    thread.start()
    leader.start()
    member = Channel.connect("127.0.0.1", middle.getsockname()[1], SECRET)
    leader.join()
    member.send({"op": "start", "entry": "a"})
    with pytest.raises(EOFError, match="changed on its way"):
        ends[0].receive(5.0)
    thread.join()
    for end in (door, middle, member, ends[0]):
        end.close()


def allocation(rank: int, world: int = 2) -> Allocation:
    return Allocation(
        kind="torchrun",
        rank=rank,
        world_size=world,
        local_rank=rank,
        local_world_size=world,
        node=0,
        num_nodes=1,
        token="abc",
    )


def test_the_file_that_names_the_leader_is_for_its_owner_only_and_goes_with_it(tmp_path: Path) -> None:
    with Gathering(allocation(0), tmp_path / "study") as gathering:
        path = meeting_path(gathering.allocation, tmp_path / "study")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["address"] == "127.0.0.1"
        channel = join(allocation(1), tmp_path / "study", {"host": "h", "cores": [0]})
        members, missing = gathering.wait(10)
        assert (list(members), missing) == ([1], set())
        gathering.end(3)
    assert channel.receive(5.0) == [{"op": "end", "code": 3}]
    channel.close()
    assert not path.exists()


def test_what_a_killed_leader_left_goes_with_the_next_and_that_of_another_stays(tmp_path: Path) -> None:
    left = {"host": socket.gethostname(), "address": "127.0.0.1", "port": 1, "secret": "00"}
    (tmp_path / ".meeting-stale.json").write_text(json.dumps(left))
    (tmp_path / ".meeting-elsewhere.json").write_text(json.dumps({**left, "host": "another"}))
    with Gathering(dataclasses.replace(allocation(0), token="one"), tmp_path):
        with Gathering(dataclasses.replace(allocation(0), token="two"), tmp_path):
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {".meeting-one.json", ".meeting-two.json", ".meeting-elsewhere.json"}


def test_who_says_nothing_or_nonsense_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "HANDSHAKE_TIMEOUT", 3.0)
    with Gathering(allocation(0), tmp_path) as gathering:
        told = json.loads(meeting_path(gathering.allocation, tmp_path).read_text())
        silent = socket.create_connection((told["address"], told["port"]))
        rude = socket.create_connection((told["address"], told["port"]))
        rude.sendall(b"GET / HTTP/1.1\r\nHost: localhost:80\r\nUser-Agent: of many letters\r\n\r\n")
        with pytest.raises(RefusedError):
            Channel.connect(told["address"], told["port"], b"wrong")
        began = time.monotonic()
        channel = join(allocation(1), tmp_path, {"host": "h", "cores": []})
        assert gathering.wait(10)[1] == set()
        assert time.monotonic() - began < 2.5
        for end in (silent, rude, channel):
            end.close()


def test_a_leader_that_is_gone_is_not_waited_for_longer_than_asked(tmp_path: Path) -> None:
    path = meeting_path(allocation(0), tmp_path)
    with pytest.raises(StudyError, match="has not found its leader in 0 s; there is no"):
        join(allocation(1), tmp_path, {}, timeout=0.1)
    path.write_text(json.dumps({"address": "127.0.0.1", "port": 1, "secret": "00"}))
    with pytest.raises(StudyError, match=r"does not answer: .*refused"):
        join(allocation(1), tmp_path, {}, timeout=0.1)


@pytest.mark.skipif(not hasattr(os, "chown") or os.getuid() != 0, reason="only root can give a file away")
def test_a_leader_that_another_user_names_is_not_followed(tmp_path: Path) -> None:
    path = meeting_path(allocation(0), tmp_path)
    path.write_text(json.dumps({"address": "127.0.0.1", "port": 1, "secret": "00"}))
    os.chown(path, 12345, -1)
    with pytest.raises(StudyError, match="belongs to user 12345"):
        join(allocation(1), tmp_path, {}, timeout=0.1)
