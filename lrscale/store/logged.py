"""Which trials have been written to which of the recipe's loggers: a file of the study with a line an event."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

FOLDER = "logs"
"""Folder of a study that loggers write to, unless they are told otherwise."""
NAME = "logged.jsonl"
"""The file, in that folder. It has one writer at a time and is only added to."""
LOG = "process.log"
"""What loggers print, in that folder."""

State = Literal["begun", "done", "failed"]


@final
@dataclass(slots=True)
class LoggedTo:
    """What one logger has got of a study.

    Parameters
    ----------
    label : str
        Name of its class.
    """

    label: str
    done: set[str] = field(default_factory=set)
    """Trials that are in it, whole."""
    failed: dict[str, str] = field(default_factory=dict)
    """Trials that it did not take, each with the reason; the empty name stands for the logger itself."""
    begun: Counter[str] = field(default_factory=Counter)
    """How often a trial has been begun: what was interrupted is not written to again, but under another name."""


def logger_key(entry: Mapping[str, Any]) -> str:
    """Return what a logger is known by: another place to write to is another logger.

    Parameters
    ----------
    entry : mapping
        ``class_path`` and ``init_args``, as JSON values.

    Examples
    --------
    >>> entry = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {}}
    >>> logger_key(entry) == logger_key({**entry, "init_args": {"save_dir": "elsewhere"}})
    False
    """
    text = json.dumps([entry["class_path"], entry.get("init_args") or {}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def logger_label(entry: Mapping[str, Any]) -> str:
    """Return what people call a logger, the name of its class.

    Examples
    --------
    >>> logger_label({"class_path": "lightning.pytorch.loggers.CSVLogger"})
    'CSVLogger'
    """
    return str(entry["class_path"]).rpartition(".")[2]


def add_event(study: Path, entry: Mapping[str, Any], trial_id: str, state: State, reason: str | None = None) -> None:
    """Add a line to the file.

    Parameters
    ----------
    study : Path
        The study folder; its folder for loggers is there.
    entry : mapping
        The logger.
    trial_id : str
        Empty for what concerns the logger itself.
    state : {"begun", "done", "failed"}
    reason : str or None, optional
        Of a failure. Default None.
    """
    event = {"logger": logger_key(entry), "class": logger_label(entry), "trial": trial_id, "state": state}
    if reason is not None:
        event["reason"] = reason
    path = study / FOLDER / NAME
    # What a kill or a power cut has torn must not swallow the line after it.
    torn = path.exists() and path.stat().st_size > 0 and not _ends_a_line(path)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if torn else "") + json.dumps(event) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_logged(study: Path) -> dict[str, LoggedTo]:
    """Return what each logger has got, by its key; empty where the recipe never named one."""
    path = study / FOLDER / NAME
    lines: Iterable[str] = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ()
    found: dict[str, LoggedTo] = {}
    for line in lines:
        try:
            event = json.loads(line)
            key, trial, state = str(event["logger"]), str(event["trial"]), event["state"]
            label, reason = str(event["class"]), str(event.get("reason") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        one = found.setdefault(key, LoggedTo(label))
        if state == "begun":
            one.begun[trial] += 1
        elif state == "done":
            one.done.add(trial)
            one.failed.pop(trial, None)
            one.failed.pop("", None)
        elif state == "failed":
            one.failed[trial] = reason
    return found


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
