"""Short runs at fixed LR that decide what a range test only brackets: which to run next, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from lrscale.errors import LrscaleError
from lrscale.laws.base import FitStatus
from lrscale.laws.lr_slice.lattice import HIGHEST_LR, lattice_index, lattice_lr, lattice_place
from lrscale.laws.lr_slice.lr_search import LRSearch
from lrscale.laws.range_test.advice import one_cycle_pair, rule_agreement, warmup_advice
from lrscale.laws.range_test.confirm_words import confirmation_sentence, scope_text
from lrscale.laws.range_test.confirmation import Confirmation, FixedRun, StableLR
from lrscale.laws.range_test.local_slice import LocalSlice, fit_local_slice, lowest_lr, stuck_runs
from lrscale.laws.range_test.range_curve import RangeFinding

_LONGEST_LADDER = 5
_EDGE_WALK = 3
# An interval no wider than two lattice steps of 2 is what a vertex among points a factor of 2 apart can give.
_NARROW = 4.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmSettings:
    """How many runs may be spent on a confirmation.

    Raises
    ------
    LrscaleError
        When a value is outside its range.
    """

    seeds: int = 2
    """Most replicates at the best LR and its neighbours, at least 1; beyond two they are added only while the runs do
    not decide."""
    ratio: float = 2.0
    """Ratio of neighbouring LRs, above 1."""
    most_lrs: int = 10
    """Most distinct LRs on the way to the best one, at least 4."""
    most_runs: int = 20
    """Most runs altogether, at least 4."""
    find_edge: bool = True
    """Whether runs are spent on the largest stable LR, where the ramps became unstable."""
    tolerance: float = 1e-3
    """Relative difference of the loss that does not matter, in [0, 1)."""

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("most_lrs", 4), ("most_runs", 4)):
            if getattr(self, name) < least:
                raise LrscaleError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.ratio > 1:
            raise LrscaleError(f"ratio must be above 1, not {self.ratio}", hint="use 2, or 1.41 for a finer lattice")
        if not 0 <= self.tolerance < 1:
            raise LrscaleError(f"tolerance must be in [0, 1), not {self.tolerance}")


DEFAULT_SETTINGS = ConfirmSettings()


def next_runs(
    finding: RangeFinding, runs: Sequence[FixedRun], *, settings: ConfirmSettings = DEFAULT_SETTINGS
) -> tuple[tuple[float, int], ...]:
    """Return the short runs at fixed LR that are still wanted.

    First a coarse ladder over the suggestions of all rules, then outward while its best is at an end, inward until two
    LRs on each side of the best are known, and more seeds at the best LR and its neighbours. Last, the edge of
    stability: from that of the ramps up or down until it lies between two neighbouring LRs.

    Parameters
    ----------
    finding : RangeFinding
        What the ramps said. One without a bracket is confirmed by nothing.
    runs : sequence of FixedRun
        What has been run so far, in any order.
    settings : ConfirmSettings, optional

    Returns
    -------
    tuple of (lr, seed)
        Runs of one round, which may run side by side; empty when decided or when the limits are reached. A pure
        function of its arguments: asked again before they have run, it returns the same, and after some of them the
        others.

    Examples
    --------
    >>> import numpy as np
    >>> from lrscale.laws import analyse_range_curves
    >>> lr = np.geomspace(1e-6, 10, 100)
    >>> finding = analyse_range_curves([(lr, 3 - 2 / (1 + 1e-2 / lr) + lr**2)])
    >>> next_runs(finding, [])
    ((0.00025, 0), (0.001, 0), (0.008, 0), (0.064, 0), (0.256, 0))
    """
    if finding.status is not FitStatus.OK:
        return ()
    done = {(_place(run.lr, settings.ratio), run.seed): run for run in runs}
    planned: dict[tuple[float, int], None] = {}
    # The rounds are played again from the first: half a round that has ended decides nothing, so that the course does
    # not depend on the order in which runs end.
    while True:
        ended = [done[key] for key in planned]
        known = {key: math.inf if (loss := done[key].loss) is None else loss for key in planned}
        wanted = _to_the_best(finding, ended, known, settings)
        if not wanted:
            stuck = {(_place(run.lr, settings.ratio), run.seed) for run in stuck_runs(ended)}
            learned = {key: math.inf if key in stuck else loss for key, loss in known.items()}
            wanted = _to_the_edge(finding, learned, settings)
        new = [key for key in wanted if key not in planned][: max(0, settings.most_runs - len(planned))]
        missing = [key for key in new if key not in done]
        if not new or missing:
            return tuple((lattice_lr(index, settings.ratio), seed) for index, seed in missing)
        planned.update(dict.fromkeys(new))


def confirm(
    finding: RangeFinding,
    runs: Sequence[FixedRun],
    *,
    settings: ConfirmSettings = DEFAULT_SETTINGS,
    steps: int | None = None,
    batch_size: int | None = None,
    warmup_steps: int = 0,
    beta2: float | None = None,
    confidence: float = 0.95,
) -> Confirmation:
    """Return what short runs at fixed LR say about the suggestions of a range test.

    Parameters
    ----------
    finding : RangeFinding
        What the ramps said.
    runs : sequence of FixedRun
        What has been run, in any order.
    settings : ConfirmSettings, optional
        As given to `next_runs`.
    steps, batch_size : int or None, optional
        Length of the runs and global batch size in examples, for the sentence and the warm-up.
    warmup_steps : int, optional
        Steps of warm-up in the runs. Default 0.
    beta2 : float or None, optional
        Adam's decay of the second moment, in [0, 1); None where the optimizer has none.
    confidence : float, optional
        Of the intervals. Default 0.95.

    Returns
    -------
    Confirmation
        With the status of the slice near the lowest run (`fit_local_slice`); that of `finding` when it has no bracket;
        `too_few_points` while there is no run.

    Examples
    --------
    >>> import numpy as np
    >>> from lrscale.laws import analyse_range_curves
    >>> lr = np.geomspace(1e-6, 10, 100)
    >>> finding = analyse_range_curves([(lr, 3 - 2 / (1 + 1e-2 / lr) + lr**2)])
    >>> runs, wanted = [], next_runs(finding, [])
    >>> while wanted:
    ...     runs += [FixedRun(lr=x, seed=s, loss=1e-4 / x + x if x < 1 else None) for x, s in wanted]
    ...     wanted = next_runs(finding, runs)
    >>> found = confirm(finding, runs)
    >>> found.status.value, round(found.lr, 4), found.stable.lo < 1 <= found.stable.hi
    ('ok', 0.01, True)
    """
    runs = tuple(sorted(runs, key=lambda run: (run.lr, run.seed)))
    scope = scope_text(runs, steps, batch_size)
    near = _fit(runs, settings, confidence)
    stable = _stable(finding, runs, warmup_steps)
    status, reason = _verdict(finding, near)
    lr = near.lr if near is not None and status is FitStatus.OK else None
    equivalence = near.equivalence if near is not None and lr is not None else None
    interval = None if near is None else near.interval
    agreement = rule_agreement(finding, runs, near, lr, equivalence)
    lowest = lowest_lr(runs)
    sentence = confirmation_sentence(
        status,
        reason,
        lr=lr,
        interval=interval,
        equivalence=equivalence,
        lowest=lowest,
        tested=bool(runs),
        scope=scope,
        agreement=agreement,
        stable=stable,
    )
    return Confirmation(
        status=status,
        reason=reason,
        sentence=sentence,
        lr=lr,
        interval=interval,
        equivalence=equivalence,
        lowest_tested=lowest,
        stable=stable,
        one_cycle=one_cycle_pair(lr, stable),
        warmup=warmup_advice(beta2, batch_size),
        agreement=agreement,
        complete=not next_runs(finding, runs, settings=settings),
        fit=None if near is None else near.fit,
        runs=runs,
    )


def _verdict(finding: RangeFinding, near: LocalSlice | None) -> tuple[FitStatus, str]:
    if finding.status is not FitStatus.OK:
        return finding.status, finding.reason
    if near is None:
        return FitStatus.TOO_FEW_POINTS, "No run at fixed LR has ended; every suggestion is untested."
    return near.status, near.reason


def _place(lr: float, ratio: float) -> float:
    # Searches move by half steps at the finest; rounding undoes the six digits that an LR is written with.
    place = lattice_place(lr, ratio)
    half = round(2 * place) / 2
    return half if abs(place - half) < 1e-4 else place


def _to_the_best(
    finding: RangeFinding,
    runs: Sequence[FixedRun],
    known: Mapping[tuple[float, int], float],
    settings: ConfirmSettings,
) -> list[tuple[float, int]]:
    ladder = _ladder(finding, settings.ratio)
    for seeds in range(min(2, settings.seeds), settings.seeds + 1):
        search = LRSearch.on_lattice(seeds=seeds, most=settings.most_lrs, ratio=settings.ratio)
        wanted = search.next(known, ladder)
        if wanted:
            return wanted
        if seeds < settings.seeds and _decided(_fit(runs, settings, 0.95), settings.tolerance):
            break
    return []


def _ladder(finding: RangeFinding, ratio: float) -> list[int]:
    """Return three to five lattice indices, two steps or more apart, that span what the rules suggest."""
    lo, hi = finding.bracket
    values = [own.value for own in finding.suggestions.values() if own.value is not None]
    if not values and lo is not None:
        values = [math.sqrt(lo * hi) if hi is not None else lo]
    top = math.inf if hi is None else math.floor(lattice_place(hi, ratio))
    first, last = lattice_index(min(values), ratio), min(lattice_index(max(values), ratio), top)
    short = max(0, 4 - int(last - first))
    first, last = int(first) - short // 2, int(last) + short - short // 2
    count = min(_LONGEST_LADDER, max(3, math.ceil((last - first) / 2) + 1))
    return sorted({round(first + (last - first) * number / (count - 1)) for number in range(count)})


def _decided(near: LocalSlice | None, tolerance: float) -> bool:
    fit = None if near is None else near.fit
    if fit is None or not fit.ok or fit.interval is None or not fit.interval.bounded:
        return False
    assert fit.interval.lo is not None and fit.interval.hi is not None and fit.min_loss is not None
    cheap = fit.expected_regret is not None and fit.expected_regret <= tolerance * abs(fit.min_loss)
    return cheap or fit.interval.hi <= _NARROW * fit.interval.lo


def _to_the_edge(
    finding: RangeFinding, known: Mapping[tuple[float, int], float], settings: ConfirmSettings
) -> list[tuple[float, int]]:
    """Return the next run towards two neighbouring LRs of which one trains and the other does not."""
    trained, blown = _edge(known)
    if not settings.find_edge or trained is None:
        return []
    if blown is None:
        if finding.hi.value is None:
            return []
        start = lattice_index(finding.hi.value, settings.ratio)
        index = max(start, math.floor(trained) + 1)
        highest = min(start + _EDGE_WALK, lattice_index(HIGHEST_LR, settings.ratio))
        return [(float(index), 0)] if index <= highest else []
    if blown - trained > 1:
        middle = round((trained + blown) / 2)
        return [(float(middle), 0)]
    return [(trained, seed) for seed in range(settings.seeds) if (trained, seed) not in known]


def _edge(known: Mapping[tuple[float, int], float]) -> tuple[float | None, float | None]:
    """Return the largest index that trained in all runs below every divergence, and the smallest divergence above."""
    diverged = {index for (index, _), loss in known.items() if not math.isfinite(loss)}
    first = min(diverged, default=math.inf)
    trained = max((index for index, _ in known if index < first), default=None)
    return trained, first if diverged else None


def _fit(runs: Sequence[FixedRun], settings: ConfirmSettings, confidence: float) -> LocalSlice | None:
    return fit_local_slice(runs, tolerance=settings.tolerance, confidence=confidence) if runs else None


def _stable(finding: RangeFinding, runs: Sequence[FixedRun], warmup_steps: int) -> StableLR | None:
    stuck = stuck_runs(runs)
    known = {(run.lr, run.seed): math.inf if run.loss is None or run in stuck else run.loss for run in runs}
    trained, blown = _edge(known)
    if trained is None:
        return None
    return StableLR(
        lo=trained,
        hi=blown,
        seeds=sum(lr == trained for lr, _ in known),
        warmup_steps=warmup_steps,
        ramp=finding.hi.value,
        ramp_lo=finding.hi.lo,
        ramp_hi=finding.hi.hi,
    )
