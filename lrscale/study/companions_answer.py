"""Whether companions of the LR are worth moving with the batch size: the same slices under each policy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lrscale.companions import COMPANIONS
from lrscale.laws import Difference, LRSliceFit, minima_difference
from lrscale.recipe.experiments import NO_COMPANIONS
from lrscale.store import Trial
from lrscale.study.cells import fit_cell
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Check, Finding
from lrscale.study.lr_answer import bounds
from lrscale.study.words import interval_text, number

CONFIDENCE = 0.95
"""Of all differences together."""


def with_companions(
    finding: Finding,
    context: Context,
    fits: Mapping[int, LRSliceFit],
    others: Mapping[str, Mapping[int, Sequence[Trial]]],
    tolerance: float,
) -> Finding:
    """Add what the companions do to the finding on scaling; unchanged where nothing moves.

    Parameters
    ----------
    finding : Finding
        Of the first policy.
    context : Context
    fits : mapping of batch size to LRSliceFit
        Slices under the first policy.
    others : mapping of policy to mapping by batch size
        Trials under each further policy, without the reference batch size.
    tolerance : float
        Relative difference of the loss that does not matter.
    """
    settings = context.recipe.experiments.scaling
    assert settings is not None
    policies = settings.companions
    if policies == (NO_COMPANIONS,):
        return finding
    other_fits = {
        policy: {size: fit_cell(list(trials), tolerance=tolerance) for size, trials in some.items()}
        for policy, some in others.items()
    }
    rows = compare_companions(policies[0], fits, other_fits, settings.reference_batch_size or 1, tolerance)
    decisions = [decide(policies[0], policy, [row for row in rows if row["policy"] == policy]) for policy in others]
    data = {
        "policies": list(policies),
        "used": policies[0],
        "reference_batch_size": settings.reference_batch_size,
        "sentences": {policy: COMPANIONS[policy].sentence for policy in policies},
        "rows": rows,
        "decisions": decisions,
    }
    extra = [trial for some in others.values() for trials in some.values() for trial in trials]
    checks = tuple(
        Check(name=f"companions {one['policy']}", status="INFO", sentence=one["sentence"]) for one in decisions
    )
    return dataclasses.replace(
        finding,
        tables={
            **finding.tables,
            "companions": tuple({key: value for key, value in row.items() if key != "slice"} for row in rows),
        },
        checks=(*finding.checks, *checks),
        data={**finding.data, "companions": data},
        trial_ids=tuple(dict.fromkeys([*finding.trial_ids, *(trial.trial_id for trial in extra)])),
    )


def compare_companions(
    used: str,
    fits: Mapping[int, LRSliceFit],
    others: Mapping[str, Mapping[int, LRSliceFit]],
    reference_batch_size: int,
    tolerance: float,
) -> list[dict[str, Any]]:
    """Return a row for each batch size and further policy: its minimum against that of the policy in use.

    Each policy is at its own best LR, and seeds are paired (`lrscale.laws.minima_difference`). The intervals hold for
    all rows together (Bonferroni).
    """
    pairs = [(policy, size) for policy, some in others.items() for size in some]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(pairs))
    rows = []
    for policy, size in pairs:
        first, second = fits[size], others[policy][size]
        beside = [some[size] for some in others.values() if size in some]
        margin = tolerance * abs(first.min_loss or 0.0)
        gap = None
        if first.ok and second.ok:
            gap = minima_difference(second, first, margin, confidence=confidence, beside=beside)
        lr_lo, lr_hi = bounds(second.interval)
        loss_lo, loss_hi = bounds(second.min_loss_interval)
        low, high = (None, None) if gap is None else bounds(gap.interval)
        rows.append(
            {
                "policy": policy,
                "against": used,
                "batch_size": size,
                "ratio": size / reference_batch_size,
                "best_lr": second.best_lr,
                "lr_lo": lr_lo,
                "lr_hi": lr_hi,
                "loss": second.min_loss,
                "loss_lo": loss_lo,
                "loss_hi": loss_hi,
                "difference": None if gap is None else gap.value,
                "difference_lo": low,
                "difference_hi": high,
                "confidence": confidence,
                "paired_seeds": 0 if gap is None else gap.n_pairs,
                "verdict": _verdict(gap, low, high),
                "slice": second.to_dict(),
            }
        )
    return rows


def decide(used: str, policy: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return whether a policy should take the place of the one in use: ``adopt``, ``keep``, ``mixed``, ``cannot tell``.

    Examples
    --------
    >>> row = {"batch_size": 512, "difference": -0.02, "difference_lo": -0.03, "difference_hi": -0.01,
    ...        "verdict": "lower", "confidence": 0.95}
    >>> decide("none", "half-life", [row])["decision"]
    'adopt'
    """
    lower = [row for row in rows if row["verdict"] == "lower"]
    higher = [row for row in rows if row["verdict"] == "higher"]
    same = [row for row in rows if row["verdict"] == "equivalent"]
    if lower and not higher:
        decision = "adopt"
        sentence = f"{_said(policy, used, lower)}: adopt them with experiments.scaling.companions: {policy}."
    elif lower:
        decision = "mixed"
        sentence = f"{_said(policy, used, lower)}; {_said(policy, used, higher)}: they do not help at every batch size."
    elif higher:
        decision, sentence = "keep", f"{_said(policy, used, higher)}: keep {used}."
    elif rows and len(same) == len(rows):
        decision = "keep"
        sentence = f"Companions {policy} make no difference that matters at any batch size: keep {used}."
    else:
        decision = "cannot tell"
        known = [row for row in rows if row["difference"] is not None]
        seen = f" ({'; '.join(_gap(row) for row in known)})" if known else ""
        sentence = (
            f"Whether companions {policy} are better than {used} cannot be told{seen}: keep {used}, or add seeds."
        )
    return {"policy": policy, "decision": decision, "sentence": sentence}


def _verdict(gap: Difference | None, lo: float | None, hi: float | None) -> str:
    if gap is None or lo is None or hi is None:
        return "cannot tell"
    if gap.verdict == "equivalent":
        return "equivalent"
    return "lower" if hi < 0 else "higher" if lo > 0 else "cannot tell"


def _said(policy: str, used: str, rows: Sequence[Mapping[str, Any]]) -> str:
    way = "lower" if rows[0]["verdict"] == "lower" else "raise"
    return f"Companions {policy} {way} the loss against {used}: {'; '.join(_gap(row) for row in rows)}"


def _gap(row: Mapping[str, Any]) -> str:
    interval = interval_text(row["difference_lo"], row["difference_hi"], row["confidence"])
    return f"{number(row['difference'])} at batch {row['batch_size']:,} ({interval})"
