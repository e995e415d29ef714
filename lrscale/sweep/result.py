"""What a table answers: the fits of every group, the laws across them, and where it all comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar, final

from lrscale.errors import LrscaleError
from lrscale.laws import LRSliceFit, OptimalLRFit
from lrscale.laws.surface.surface_fit import LRSurfaceFit
from lrscale.study.finding import Finding
from lrscale.sweep.columns import TableKind
from lrscale.sweep.holdout import Miss
from lrscale.sweep.scale import ScaleLaws

FORMAT = "lrscale fits of a table"
"""What marks a fits.json as one of ours."""
SCHEMA_VERSION = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The table, and how it was read."""

    file: str
    """Name of the file, without its folder."""
    format: str
    sha256: str
    n_rows: int
    """Rows of the file."""
    n_runs: int
    """Rows that are left."""
    n_diverged: int
    columns: Mapping[str, str]
    """Role to column."""
    guessed: tuple[str, ...]
    """One sentence for each column that was guessed."""
    by: tuple[str, ...]
    batch_unit: str | None
    notes: tuple[str, ...]
    """What was dropped and why, as sentences."""
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `from_dict` inverts it."""
        plain = asdict(self)
        for name in ("guessed", "by", "notes"):
            plain[name] = list(plain[name])
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        """Rebuild what `to_dict` wrote."""
        return cls(**{**data, **{name: tuple(data[name]) for name in ("guessed", "by", "notes")}})


class LawGroup(Protocol):
    """The answer of one group of a table that has one law a group."""

    @property
    def ok(self) -> bool:
        """Whether the group has an answer."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        ...


G = TypeVar("G", bound=LawGroup)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LawTableFit(Generic[G]):
    """Everything that was found in a table that has one law a group: steps to a target, or loss curves."""

    kind: TableKind
    source: Source
    warnings: tuple[str, ...]
    """What a reader should look into before believing the numbers, as sentences."""
    groups: tuple[G, ...]
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether any group has an answer."""
        return any(group.ok for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` rebuilds an equal object."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "schema_version": SCHEMA_VERSION,
            "source": self.source.to_dict(),
            "warnings": list(self.warnings),
            "confidence": self.confidence,
            "groups": [group.to_dict() for group in self.groups],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], group: Callable[[Mapping[str, Any]], G]) -> LawTableFit[G]:
        """Rebuild what `to_dict` wrote; `group` rebuilds a group.

        Raises
        ------
        LrscaleError
            When it is something else, or of a newer version.
        """
        _check_format(data)
        return cls(
            kind=data["kind"],
            source=Source.from_dict(data["source"]),
            warnings=tuple(data["warnings"]),
            confidence=data["confidence"],
            groups=tuple(group(one) for one in data["groups"]),
        )


def _check_format(data: Mapping[str, Any]) -> None:
    if data.get("format") != FORMAT:
        raise LrscaleError("these are not the fits of a table", hint="make them with lrscale fit TABLE")
    if data["schema_version"] > SCHEMA_VERSION:
        raise LrscaleError(
            f"the fits have version {data['schema_version']}, this lrscale reads up to {SCHEMA_VERSION}",
            hint="update lrscale",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFit:
    """The answer of one group."""

    label: str
    key: Mapping[str, Any]
    """Column of ``--by`` to its value."""
    finding: Finding
    """The same as a study's scaling experiment finds: sentence, numbers, tables, slices and law."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """``params``, ``tokens`` and ``examples``, as far as the group has one value of them."""
    best_run: Mapping[str, float] | None
    """``lr``, ``batch`` and ``loss`` of the best measured cell; None when every run diverged."""
    n_runs: int
    n_diverged: int
    surface: LRSurfaceFit | None = None
    holdout: Miss | str | None = None
    """How far the law misses the largest batch size when it is left out, or why that cannot be said."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a batch size has its best LR inside."""
        return self.finding.status == "ok"

    @property
    def slices(self) -> dict[float, LRSliceFit]:
        """Batch size to its fitted slice."""
        return {cell["batch_size"]: LRSliceFit.from_dict(cell["slice"]) for cell in self.finding.data["cells"]}

    @property
    def law(self) -> OptimalLRFit:
        """The law of the best LR against the batch size; its status says whether there is one."""
        return OptimalLRFit.from_dict(self.finding.data["law"])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` rebuilds an equal object."""
        return {
            "label": self.label,
            "key": dict(self.key),
            "finding": self.finding.to_dict(),
            "scale": dict(self.scale),
            "best_run": None if self.best_run is None else dict(self.best_run),
            "n_runs": self.n_runs,
            "n_diverged": self.n_diverged,
            "surface": None if self.surface is None else self.surface.to_dict(),
            "holdout": self.holdout.to_dict() if isinstance(self.holdout, Miss) else self.holdout,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GroupFit:
        """Rebuild what `to_dict` wrote."""
        held = data["holdout"]
        return cls(
            **{
                **data,
                "finding": Finding.from_dict(data["finding"]),
                "surface": None if data["surface"] is None else LRSurfaceFit.from_dict(data["surface"]),
                "holdout": Miss.from_dict(held) if isinstance(held, Mapping) else held,
                "notes": tuple(data["notes"]),
            }
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFit:
    """Everything that `lrscale fit` found in a table."""

    source: Source
    warnings: tuple[str, ...]
    """What a reader should look into before believing the numbers, as sentences."""
    groups: tuple[GroupFit, ...]
    scale: ScaleLaws | None
    """None when there is one group only."""
    confidence: float = 0.95

    @property
    def ok(self) -> bool:
        """Whether any group has an answer."""
        return any(group.ok for group in self.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` rebuilds an equal object."""
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "source": self.source.to_dict(),
            "warnings": list(self.warnings),
            "confidence": self.confidence,
            "groups": [group.to_dict() for group in self.groups],
            "scale": None if self.scale is None else self.scale.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SweepFit:
        """Rebuild what `to_dict` wrote.

        Raises
        ------
        LrscaleError
            When it is something else, or of a newer version.
        """
        _check_format(data)
        if data.get("kind", "runs") != "runs":
            raise LrscaleError(f"these are fits of a table of {data['kind']}, not of runs", hint="fit a table of runs")
        return cls(
            source=Source.from_dict(data["source"]),
            warnings=tuple(data["warnings"]),
            confidence=data["confidence"],
            groups=tuple(GroupFit.from_dict(group) for group in data["groups"]),
            scale=None if data["scale"] is None else ScaleLaws.from_dict(data["scale"]),
        )
