"""Families of interchangeable parts, found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, final, overload

from typing_extensions import override

from lrscale.errors import LrscaleError, did_you_mean

T = TypeVar("T")
D = TypeVar("D")


@final
class Registry(Mapping[str, T], Generic[T]):
    """Names of the members of one family, in the order in which they were registered.

    Parameters
    ----------
    kind : str
        What a member is called in messages, for example ``"schedule"``.

    Examples
    --------
    >>> shapes = Registry[type]("shape")
    >>> @shapes.register("square")
    ... class Square: ...
    >>> list(shapes)
    ['square']
    >>> shapes["squar"]
    Traceback (most recent call last):
    ...
    lrscale.errors.LrscaleError: unknown shape squar; did you mean square?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files a member under `name`; a name may be used once."""

        def add(member: T) -> T:
            if name in self._members:
                raise LrscaleError(f"{self.kind} {name} is registered twice", hint="choose another name")
            self._members[name] = member
            return member

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._members:
            raise LrscaleError(f"unknown {self.kind} {name}", hint=did_you_mean(name, self._members))
        return self._members[name]

    @overload
    def get(self, name: str, /) -> T | None: ...

    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...

    @override
    def get(self, name: str, /, default: Any = None) -> Any:
        """Return a member, or `default` for an unknown name."""
        # Mapping.get waits for a KeyError, and an unknown name here is an LrscaleError.
        return self._members.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
