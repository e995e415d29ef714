"""A progress that keeps what a study says."""

from __future__ import annotations

from lrscale.launch import AbstractProgress


class Notes(AbstractProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)
