"""What runs at fixed LR say, as a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from lrscale.laws.base import FitStatus, Interval
from lrscale.laws.range_test.confirmation import FixedRun, RuleAgreement, StableLR


def confirmation_sentence(
    status: FitStatus,
    reason: str,
    *,
    lr: float | None,
    interval: Interval | None,
    equivalence: tuple[float, float] | None,
    lowest: float | None,
    tested: bool,
    scope: str,
    agreement: Sequence[RuleAgreement],
    stable: StableLR | None,
) -> str:
    """Return the finding: the LR with interval and scope, or what cannot be told; the nearest rule; the edge."""
    if not tested:
        return reason.rstrip(".") + "."
    return (
        _best(status, reason, lr, interval, equivalence, lowest, scope) + _agreed(agreement, lr) + _edge(stable) + "."
    )


def scope_text(runs: Sequence[FixedRun], steps: int | None, batch_size: int | None) -> str:
    """Return how many runs there were, over what, and how long."""
    seeds = len({run.seed for run in runs})
    parts = [f"{len(runs)} runs at {len({run.lr for run in runs})} LRs over {seeds} seed{'s' if seeds != 1 else ''}"]
    if steps is not None:
        parts.append(f"{steps:,} steps")
    if batch_size is not None:
        parts.append(f"batch {batch_size:,}")
    return ", ".join(parts)


def _best(
    status: FitStatus,
    reason: str,
    lr: float | None,
    interval: Interval | None,
    same: tuple[float, float] | None,
    lowest: float | None,
    scope: str,
) -> str:
    if lr is not None and interval is not None:
        alike = f"; LRs from {same[0]:.2g} to {same[1]:.2g} are not told apart" if same is not None else ""
        return f"Runs at fixed LR end lowest at {lr:.2g} ({interval.text(2)}; {scope}){alike}"
    if status is FitStatus.ALL_DIVERGED:
        return f"Every run at fixed LR diverged ({scope})"
    best = f"; the lowest of those tried is {lowest:.2g}, which is not confirmed" if lowest is not None else ""
    return f"Runs at fixed LR confirm no learning rate ({scope}): {reason.rstrip('.')}{best}"


def _agreed(agreement: Sequence[RuleAgreement], lr: float | None) -> str:
    if lr is None or not agreement:
        return ""
    nearest = agreement[0]
    name = nearest.rule.replace("_", " ")
    return f"; of the rules {name} came nearest, at {nearest.lr:.2g} ({nearest.factor:.2g} times it)"


def _edge(stable: StableLR | None) -> str:
    if stable is None:
        return ""
    warm = f"with {stable.warmup_steps} steps of warm-up" if stable.warmup_steps else "without warm-up"
    if stable.hi is None:
        return f"; {warm} every run trained, up to {stable.lo:.2g}"
    return f"; {warm} every run trained up to {stable.lo:.2g} and one no longer at {stable.hi:.2g}"
