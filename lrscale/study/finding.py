"""What an experiment found: a sentence, the numbers behind it, and checks with remedies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

FindingStatus = Literal["ok", "cannot_tell", "failed"]
CheckStatus = Literal["PASS", "WARNING", "FAIL", "INFO"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number with its interval and unit; a bound that the data do not give is None."""

    value: float | None
    lo: float | None = None
    hi: float | None = None
    unit: str = ""
    confidence: float = 0.95


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One health check: a status, what was seen, and what to do about it."""

    name: str
    status: CheckStatus
    sentence: str
    remedy: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer of one experiment.

    Examples
    --------
    >>> finding = Finding(key="scaling", title="LR and batch size", status="cannot_tell", sentence="Too few trials.")
    >>> Finding.from_dict(finding.to_dict()) == finding
    True
    """

    key: str
    """Name of the experiment, for example ``"scaling"``."""
    title: str
    status: FindingStatus
    sentence: str
    """The finding: a number, an interval and its scope; or what cannot be told, and what it would take."""
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    tables: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    """Rows of JSON values; every table has the same keys in every row."""
    checks: tuple[Check, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    """What the figures of the report are drawn from; JSON values, one shape per experiment."""
    trial_ids: tuple[str, ...] = ()
    """The trials it stands on."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        return {
            "key": self.key,
            "title": self.title,
            "status": self.status,
            "sentence": self.sentence,
            "numbers": {name: dataclasses.asdict(number) for name, number in self.numbers.items()},
            "tables": {name: [dict(row) for row in rows] for name, rows in self.tables.items()},
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "data": dict(self.data),
            "trial_ids": list(self.trial_ids),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` wrote."""
        return cls(
            key=plain["key"],
            title=plain["title"],
            status=plain["status"],
            sentence=plain["sentence"],
            numbers={name: Quantity(**number) for name, number in plain["numbers"].items()},
            tables={name: tuple(rows) for name, rows in plain["tables"].items()},
            checks=tuple(Check(**check) for check in plain["checks"]),
            data=plain["data"],
            trial_ids=tuple(plain["trial_ids"]),
        )
