"""What travels from the driver to a worker and back: JSON, and nothing that is run on being read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from lrscale import errors
from lrscale.errors import LrscaleError, StudyError
from lrscale.launch.base import LaunchSettings, TrialRequest
from lrscale.store import TrialSpec
from lrscale.units import Layout

TICKET_VERSION = 1
"""Schema version of a ticket."""
CARRIED = ("import_paths", "preload", "accelerator", "trials_at_once", "timeout", "environment")
"""Fields of the launch settings that hold on every machine as they are."""
DIGEST = 12
"""Hexadecimal digits of a ticket's digest in its key."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One piece of work: a trial, or a look at the task.

    Examples
    --------
    >>> Ticket(name="ab", work={"kind": "inspect"}).key
    'ab-710316c2d685'
    """

    name: str
    """The trial's id, or ``"inspect"``."""
    work: Mapping[str, Any]
    """``kind`` (``"train"`` or ``"inspect"``), and what that kind needs. JSON values."""
    seconds: float | None = field(default=None, compare=False)
    """Expected to take; None where nothing tells."""

    @property
    def key(self) -> str:
        """The name and a digest of the work: equal work has an equal key, and other work another."""
        text = json.dumps(self.work, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:DIGEST]}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        return {"version": TICKET_VERSION, "name": self.name, "work": dict(self.work), "seconds": self.seconds}

    @classmethod
    def from_dict(cls, plain: Any, key: str) -> Ticket:
        """Read what `to_dict` wrote under a key.

        Raises
        ------
        StudyError
            When it is not the work of that key, or of another version.
        """
        try:
            if plain["version"] != TICKET_VERSION:
                raise StudyError(
                    f"the trial of {key} was asked for by another version of lrscale",
                    hint="use one version on the login node and on the nodes, then run it again",
                )
            ticket = cls(name=str(plain["name"]), work=plain["work"], seconds=plain["seconds"])
        except (KeyError, TypeError) as error:
            raise StudyError(f"what was asked for under {key} is damaged: {error!r}", hint="run it again") from error
        if ticket.key != key:
            raise StudyError(f"what was asked for under {key} has been changed since", hint="run it again")
        return ticket


def train_ticket(request: TrialRequest, settings: LaunchSettings) -> Ticket:
    """Return the ticket of a trial."""
    work = {
        "kind": "train",
        "spec": request.spec.to_dict(),
        "layout": dataclasses.asdict(request.layout),
        "instruments": {name: dict(values) for name, values in request.instruments.items()},
        **({"keep": list(request.keep)} if request.keep else {}),
        "settings": _settings_to_dict(settings),
    }
    return Ticket(name=request.spec.trial_id, work=_plain(work), seconds=request.seconds)


def inspect_ticket(job: Mapping[str, Any], layout: Layout, settings: LaunchSettings) -> Ticket:
    """Return the ticket of a look at the task."""
    work = {
        "kind": "inspect",
        "job": dict(job),
        "layout": dataclasses.asdict(layout),
        "settings": _settings_to_dict(settings),
    }
    return Ticket(name="inspect", work=_plain(work))


def trial_request(ticket: Ticket, folder: Path) -> TrialRequest:
    """Return the request that a ticket was made of, with its files in `folder`."""
    return TrialRequest(
        spec=TrialSpec.from_dict(ticket.work["spec"]),
        layout=Layout(**ticket.work["layout"]),
        folder=folder,
        instruments=ticket.work["instruments"],
        keep=tuple(ticket.work.get("keep", ())),
        seconds=ticket.seconds,
    )


def launch_settings(ticket: Ticket, study: Path) -> LaunchSettings:
    """Return the launch settings of a ticket, for a worker that serves a study."""
    plain = dict(ticket.work["settings"])
    for name in ("import_paths", "preload"):
        plain[name] = tuple(plain[name])
    return LaunchSettings(root=Path(plain.pop("root")), study=study, **plain)


def error_to_dict(error: LrscaleError) -> dict[str, Any]:
    """Return an error as JSON values; `error_from_dict` inverts it."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def error_from_dict(plain: Mapping[str, Any]) -> LrscaleError:
    """Return the error that a worker met; a kind that is not known here is a plain one.

    Examples
    --------
    >>> error_from_dict({"kind": "TaskError", "message": "no module shop", "hint": None})
    TaskError('no module shop')
    """
    kind = getattr(errors, str(plain["kind"]), None)
    known = kind if isinstance(kind, type) and issubclass(kind, LrscaleError) else LrscaleError
    return known(str(plain["message"]), hint=plain["hint"])


def _settings_to_dict(settings: LaunchSettings) -> dict[str, Any]:
    return {"root": str(settings.root.resolve()), **{name: getattr(settings, name) for name in CARRIED}}


def _plain(work: Mapping[str, Any]) -> Any:
    # Tuples become lists now, so that the digest is that of what is read back.
    return json.loads(json.dumps(work, allow_nan=False))
