"""What branches say of the critical batch size, beside the noise scale and the hyperbola."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lrscale.laws.critical_branch import BranchedBatch
from lrscale.store import Trial
from lrscale.study.cells import failure_checks
from lrscale.study.critical_batch.branches import Branches
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Check, Finding, Quantity
from lrscale.study.lr_answer import bounds
from lrscale.study.noise_scale.cells import noise_scale_cells
from lrscale.study.words import number


def critical_batch_finding(key: str, title: str, branches: Branches) -> Finding:
    """Return the finding."""
    tolerance = branches.tolerance()
    judged: dict[int, BranchedBatch] = {}
    if tolerance is not None:
        for position in branches.positions:
            found = branches.judged(position, tolerance)
            if found is not None and found.multiple is not None and len(found.rows) > 1:
                judged[position] = found
    rows = [_place(branches, position, found) for position, found in judged.items()]
    each = [row for position, found in judged.items() for row in _each(branches, position, found)]
    trials = branches.trials()
    compared = [*_branch_rows(branches, judged), *_other_rows(branches.context, branches)]
    numbers = {}
    if rows:
        last = rows[-1]
        numbers["critical_batch"] = Quantity(
            value=last["critical_batch"], lo=last["at_least"], hi=last["below"], unit="examples"
        )
    return Finding(
        key=key,
        title=title,
        status="ok" if rows else "cannot_tell",
        sentence=_sentence(branches, rows, tolerance, trials),
        numbers=numbers,
        tables={
            "places": tuple(rows),
            "branches": tuple(each),
            "compared": tuple(compared),
        },
        checks=tuple(_checks(branches, judged, trials)),
        data={
            "batch_size": branches.batch_size,
            "lr": branches.lr,
            "lr_power": branches.power,
            "tolerance": tolerance,
            "window_examples": branches.window * branches.batch_size,
            "orders": branches.settings.orders,
            "places": rows,
            "branches": each,
            "compared": compared,
            "noise_scale_course": _course(branches),
            "batch_schedule": _schedule(branches, judged),
            "monitor": next((trial.record.monitor for trial in trials if trial.record.monitor), None),
        },
        trial_ids=tuple(dict.fromkeys(trial.trial_id for trial in trials)),
    )


def _place(branches: Branches, position: int, found: BranchedBatch) -> dict[str, Any]:
    size = branches.batch_size
    assert found.multiple is not None
    return {
        "examples": position * size,
        "steps": position,
        "multiple": found.multiple,
        "critical_batch": found.multiple * size,
        "at_least": None if found.lo is None else found.lo * size,
        "below": None if found.hi is None else found.hi * size,
        "open_above": found.open_above,
        "tried": found.rows[-1].multiple * size,
    }


def _each(branches: Branches, position: int, found: BranchedBatch) -> list[dict[str, Any]]:
    size, rows = branches.batch_size, []
    for row in found.rows:
        lo, hi = bounds(None if row.difference is None else row.difference.interval)
        rows.append(
            {
                "examples": position * size,
                "steps": position,
                "batch_size": row.multiple * size,
                "multiple": row.multiple,
                "lr": branches.lr * row.multiple**branches.power,
                "loss": row.loss,
                "above": row.above,
                "above_lo": lo,
                "above_hi": hi,
                "within": row.within,
                "standing": row.standing,
            }
        )
    return rows


def _branch_rows(branches: Branches, judged: Mapping[int, BranchedBatch]) -> Iterator[dict[str, Any]]:
    for position, found in judged.items():
        place = _place(branches, position, found)
        yield {
            "definition": "largest batch that ends as low on as many examples (Merrill et al. 2025)",
            "where": f"from {place['examples']:,} examples on",
            "value": place["critical_batch"],
            "lo": place["at_least"],
            "hi": place["below"],
        }


def _other_rows(context: Context, branches: Branches) -> Iterator[dict[str, Any]]:
    noise = context.findings.get("noise_scale")
    found = None if noise is None else noise.numbers.get("noise_scale")
    where = "as the noise-scale section has it"
    if found is None:
        cells = noise_scale_cells([one for one in (context.ended(branches.trunk),) if one is not None])
        if cells and (cells[0].total.value is not None or cells[0].total.interval is not None):
            lo, hi = bounds(cells[0].total.interval)
            found, where = Quantity(value=cells[0].total.value, lo=lo, hi=hi), "second half of the trunk"
    if found is not None:
        yield {
            "definition": "gradient noise scale, a proxy (McCandlish et al. 2018)",
            "where": where,
            "value": found.value,
            "lo": found.lo,
            "hi": found.hi,
        }
    scaling = context.findings.get("scaling")
    knee = None if scaling is None else scaling.numbers.get("critical_batch")
    if knee is not None:
        yield {
            "definition": "hyperbola of steps to a loss: twice the least examples (McCandlish et al. 2018)",
            "where": "whole runs to the target loss",
            "value": knee.value,
            "lo": knee.lo,
            "hi": knee.hi,
        }


def _course(branches: Branches) -> list[list[float | None]]:
    """Return the noise scale along the trunk: share of it, value, interval."""
    trunk = branches.context.ended(branches.trunk)
    cells = noise_scale_cells([] if trunk is None else [trunk])
    if not cells:
        return []
    course = cells[0].course
    end = branches.positions[-1] * branches.batch_size
    points: list[list[float | None]] = []
    for place, one in enumerate(course):
        if one.value is not None:
            lo, hi = bounds(one.interval)
            points.append([(place + 0.5) / len(course) * end, one.value, lo, hi])
    return points


def _schedule(branches: Branches, judged: Mapping[int, BranchedBatch]) -> dict[str, Any] | None:
    """Return a batch schedule that stays within what the branches have found safe, as a share of the trunk's length."""
    points: list[list[float]] = [[0.0, 1]]
    for position, found in judged.items():
        multiple = max(int(points[-1][1]), found.multiple or 1)
        if multiple > points[-1][1] and position < branches.horizon:
            points.append([round(position / branches.horizon, 4), multiple])
    if len(points) == 1:
        return None
    return {"name": "piecewise", "settings": {"points": points, "lr_power": branches.power}}


def _sentence(branches: Branches, rows: list[dict[str, Any]], tolerance: float | None, trials: list[Trial]) -> str:
    if not rows:
        trunk = branches.context.ended(branches.trunk)
        if trunk is not None and trunk.record.status == "diverged":
            return (
                f"The trunk at LR {number(branches.lr)} diverged before its first branch point; "
                "set experiments.critical_batch.learning_rate lower."
            )
        return (
            "The critical batch size cannot be told: the branches at the trunk's own batch are not there. "
            f"{len(trials)} of its trials are; run the study again."
        )
    parts = []
    for row in rows:
        told = f"{row['critical_batch']:,}"
        if row["open_above"]:
            parts.append(f"from {row['examples']:,} examples on it is at least {told}, the largest that was tried")
        else:
            parts.append(f"from {row['examples']:,} examples on it is {told} ({_ends(row)})")
    assert tolerance is not None
    return (
        f"The largest batch whose branches end at most {number(tolerance)} above those of smaller ones, on as many "
        "examples: " + "; ".join(parts) + f" (trunk at batch {branches.batch_size}, LR {number(branches.lr)}; "
        f"{branches.window * branches.batch_size:,} examples a branch, {branches.settings.orders} orders of them)."
    )


def _ends(row: Mapping[str, Any]) -> str:
    """Return the interval of a batch size: whole numbers of examples, written as they are tried."""
    least, below = row["at_least"], row["below"]
    if least is None:
        return "no interval" if below is None else f"95 % below {below:,}"
    return f"95 % at least {least:,}" + ("" if below is None else f" and below {below:,}")


def _checks(branches: Branches, judged: Mapping[int, BranchedBatch], trials: list[Trial]) -> Iterator[Check]:
    size = branches.batch_size
    for position, found in judged.items():
        if found.multiple == 1:
            yield Check(
                name=f"Critical batch from {position * size:,} examples on",
                status="WARNING",
                sentence=(
                    "Already the first multiple ends beyond the tolerance: it lies below "
                    f"{found.rows[1].multiple * size:,}."
                ),
                remedy="set experiments.critical_batch.batch_size lower",
            )
        elif found.open_above:
            yield Check(
                name=f"Critical batch from {position * size:,} examples on",
                status="INFO",
                sentence=f"Every batch up to {found.rows[-1].multiple * size:,} is within the tolerance.",
                remedy="add larger experiments.critical_batch.multiples",
            )
    missing = [position for position in branches.positions if position not in judged]
    if judged and missing:
        yield Check(
            name="Critical batch: branch points",
            status="WARNING",
            sentence=f"{len(missing)} of {len(branches.positions)} branch points have no branches to judge by.",
            remedy="run the study again, with a larger budget if it has one",
        )
    bad = [trial for trial in trials if trial.record.status not in ("completed", "diverged")]
    yield from failure_checks("Critical batch: trials ran", bad, len(trials))
