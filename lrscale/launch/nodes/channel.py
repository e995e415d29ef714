"""Messages between two processes that know the same secret.

Each side proves that it knows the secret by the HMAC-SHA256 of a number that the other has drawn (RFC 2104; the mutual
challenge and response of ISO/IEC 9798-4), and every message carries such a code over its place in the order, so that
none can be put in, changed or repeated on the way. Nothing is hidden: messages name paths and classes, no data.
Messages are JSON; no bytes that came over the network are ever unpickled. `multiprocessing.connection` would do for
the greeting, but up to Python 3.11 it knows only MD5, which some systems forbid, and one that connects and says nothing
would hold up its listener.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Mapping
from typing import Any, final

GREETING = b"lrscale1"
NONCE = 32
"""Bytes of the number that a side draws."""
CODE = hashlib.sha256().digest_size
LONGEST = 1 << 24
"""Bytes of the longest message: the preload list of a task and the variables of a rank are far below it."""
HANDSHAKE_TIMEOUT = 10.0
"""Seconds that the other side gets to prove itself."""
SEND_TIMEOUT = 10.0
"""Seconds after which a peer that takes nothing is given up."""
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""The kernel asks a silent peer after 10 s, and gives it up 15 s later (tcp(7))."""


class RefusedError(Exception):
    """The other side does not know the secret, or speaks another language."""


@final
class Channel:
    """One end of an authenticated connection.

    Made by `accept` at the leader and by `connect` at the others. `send` may be called by several threads, `receive` by
    one.
    """

    def __init__(self, link: socket.socket, sending: bytes, receiving: bytes) -> None:
        self._link = link
        self._sending, self._sent = sending, 0
        self._receiving, self._received = receiving, 0
        self._pending = b""
        self._turn = threading.Lock()
        self._closed = False
        link.settimeout(SEND_TIMEOUT)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                with contextlib.suppress(OSError):
                    link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.here: str = link.getsockname()[0]
        """Address of this end."""
        self.there: str = link.getpeername()[0]
        """Address of the other end."""

    @classmethod
    def accept(cls, link: socket.socket, secret: bytes) -> Channel:
        """Answer one that has connected.

        Raises
        ------
        RefusedError
            When it does not know the secret.
        OSError
            When it says nothing, or goes.
        """
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT
        greeting = _exactly(link, len(GREETING) + NONCE, deadline)
        if not greeting.startswith(GREETING):
            raise RefusedError("it does not speak lrscale's protocol")
        nonces = greeting[len(GREETING) :] + secrets.token_bytes(NONCE)
        link.sendall(nonces[NONCE:] + _code(secret, b"leader", nonces))
        if not hmac.compare_digest(_exactly(link, CODE, deadline), _code(secret, b"member", nonces)):
            raise RefusedError("it does not know the study's secret")
        return cls(link, _code(secret, b"from leader", nonces), _code(secret, b"from member", nonces))

    @classmethod
    def connect(cls, address: str, port: int, secret: bytes) -> Channel:
        """Connect to the leader.

        Raises
        ------
        RefusedError
            When it does not know the secret.
        OSError
            When nobody listens there, or it goes.
        """
        link = socket.create_connection((address, port), timeout=HANDSHAKE_TIMEOUT)
        try:
            deadline = time.monotonic() + HANDSHAKE_TIMEOUT
            drawn = secrets.token_bytes(NONCE)
            link.sendall(GREETING + drawn)
            answer = _exactly(link, NONCE + CODE, deadline)
            nonces = drawn + answer[:NONCE]
            if not hmac.compare_digest(answer[NONCE:], _code(secret, b"leader", nonces)):
                raise RefusedError("it does not know the study's secret")
            link.sendall(_code(secret, b"member", nonces))
            return cls(link, _code(secret, b"from member", nonces), _code(secret, b"from leader", nonces))
        except BaseException:
            link.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something arrives; -1 when closed."""
        return self._link.fileno()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send a message; False when the other side is gone, or has taken nothing for 10 s."""
        body = json.dumps(message).encode()
        with self._turn:
            if self._closed:
                return False
            code = _code(self._sending, struct.pack("!Q", self._sent), body)
            self._sent += 1
            try:
                self._link.sendall(struct.pack("!I", len(body)) + code + body)
                return True
            except OSError:
                pass
        # A message that went half its way leaves nothing that could be read after it.
        self.close()
        return False

    def receive(self, timeout: float) -> list[dict[str, Any]]:
        """Return the messages that have arrived whole within `timeout` seconds; none when there is none.

        Raises
        ------
        EOFError
            When the other side has closed, is gone, or sends what it cannot have signed.
        """
        if self._closed:
            raise EOFError("closed")
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._link, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return []
            chunk = self._link.recv(1 << 16)
        except (OSError, ValueError, KeyError) as error:
            # The last two when another thread has closed it.
            raise EOFError(str(error)) from error
        if not chunk:
            raise EOFError("it closed the connection")
        self._pending += chunk
        messages = []
        while len(self._pending) >= 4:
            (length,) = struct.unpack_from("!I", self._pending)
            if length > LONGEST:
                raise EOFError(f"a message of {length} bytes")
            end = 4 + CODE + length
            if len(self._pending) < end:
                break
            code, body = self._pending[4 : 4 + CODE], self._pending[4 + CODE : end]
            self._pending = self._pending[end:]
            if not hmac.compare_digest(code, _code(self._receiving, struct.pack("!Q", self._received), body)):
                raise EOFError("a message was changed on its way")
            self._received += 1
            messages.append(json.loads(body))
        return messages

    def close(self) -> None:
        """Close both directions; a thread that waits in `receive` wakes up."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()


def listen(address: str) -> socket.socket:
    """Return a socket that listens on one address of this machine, at a port that the system chooses."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.bind((address, 0))
    door.listen(128)
    return door


def _code(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"".join(struct.pack("!I", len(part)) + part for part in parts), hashlib.sha256).digest()


def _exactly(link: socket.socket, size: int, deadline: float) -> bytes:
    found = b""
    while len(found) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("it says nothing")
        link.settimeout(left)
        chunk = link.recv(size - len(found))
        if not chunk:
            raise ConnectionResetError("it closed the connection")
        found += chunk
    return found
