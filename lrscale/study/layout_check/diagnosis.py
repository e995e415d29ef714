"""Whether layouts agree, and by which cause they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from lrscale.study.layout_check.causes import (
    FATAL,
    Cause,
    CauseKind,
    batch_statistics,
    identical_batches,
    randomness,
    reweighted,
    scaled,
    summed,
)
from lrscale.study.layout_check.compare import EXPLAINED, LEAST_EXPLAINED, fit_weights
from lrscale.study.layout_check.probe import FloatArray, layout_words
from lrscale.study.layout_check.runs import CONTROLLED, Pair, Run, Runs, Stage, reads_identical_batches, same_rows
from lrscale.study.layout_check.sentences import agreement, difference_words, random_sentence
from lrscale.study.layout_check.texts import share, some
from lrscale.study.words import number
from lrscale.units import Layout

Status = Literal["same", "differs", "cannot_compare"]

NOISY_WHOLE = 0.15
"""The same where random numbers that cannot be silenced are in both."""
BEYOND_NOISE = 2.0
"""A difference this many times that of another seed is not the seed's: it is the difference of two gradients with noise
either way, over the largest of a few steps."""
NOTICED = 10.0
"""Random numbers matter where another course of them moves the gradient by more than this many tolerances."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a layout check says."""

    status: Status
    sentence: str
    causes: tuple[Cause, ...] = ()
    """The main one first."""
    pairs: dict[Layout, Pair]
    """Every layout against the reference, the module as it is."""
    noise: float | None = None
    """Relative difference of the gradient that another course of random numbers makes."""

    @property
    def fatal(self) -> bool:
        """Whether a run on several devices is not what it is taken for."""
        return any(cause.kind in FATAL for cause in self.causes)

    @property
    def remedy(self) -> str | None:
        """What to do about the causes."""
        remedies = dict.fromkeys(cause.remedy for cause in self.causes if cause.remedy)
        return "; ".join(remedies) or None


def diagnose(found: Sequence[Run]) -> Diagnosis:
    """Name what makes layouts differ.

    Parameters
    ----------
    found : sequence of Run
        The plain trials in the order of the plan, the reference first, and those that `further` has asked for.

    Examples
    --------
    >>> diagnose([]).status
    'cannot_compare'
    """
    runs = Runs(found)
    plain = [run for run in found if run.stage == "plain"]
    failed = [cause for run in plain if (cause := _failure(run, runs)) is not None]
    pairs = runs.pairs()
    if runs.reference is None or not pairs:
        return _nothing_to_compare(plain, failed)
    causes = [*failed]
    for layout, pair in pairs.items():
        if reads_identical_batches(pair.other):
            causes.append(identical_batches(layout))
    differing = runs.differing()
    causes += _of_differing(runs, differing)
    causes = _merged(causes)
    kinds = {cause.kind for cause in causes}
    noise = runs.noise() if differing else None
    if not causes:
        return Diagnosis(status="same", sentence=agreement(pairs, runs.reference.layout), pairs=pairs)
    if kinds == {"randomness"}:
        quiet = runs.pairs("quiet")
        silenced = bool(quiet) and all(layout in quiet and not quiet[layout].differs for layout in differing)
        return Diagnosis(
            status="same" if silenced else "cannot_compare",
            sentence=random_sentence(runs, differing, silenced=silenced),
            causes=tuple(causes),
            pairs=pairs,
            noise=noise,
        )
    status: Status = "cannot_compare" if kinds <= {"other_examples", "randomness"} else "differs"
    told = "; ".join(cause.sentence for cause in causes)
    return Diagnosis(
        status=status,
        sentence=f"{difference_words(runs, pairs)}: {told}.",
        causes=tuple(causes),
        pairs=pairs,
        noise=noise,
    )


def _nothing_to_compare(plain: Sequence[Run], failed: Sequence[Cause]) -> Diagnosis:
    trained = [run for run in plain if run.probe is not None]
    if len(plain) < 2:
        sentence = "There is only one way to form the batch here, so that there is nothing to compare."
    elif failed:
        sentence = f"Fewer than two layouts trained: {'; '.join(cause.sentence for cause in failed)}."
    elif len(trained) < 2:
        ends = [f"{layout_words(run.layout)} {run.status.replace('_', ' ')}" for run in plain if run.probe is None]
        sentence = f"Fewer than two layouts trained: {'; '.join(ends)}."
    else:
        sentence = "No step has a gradient that is finite in two layouts."
    return Diagnosis(
        status="differs" if failed else "cannot_compare", sentence=sentence, causes=tuple(failed), pairs={}
    )


def _failure(run: Run, runs: Runs) -> Cause | None:
    # Too little memory for one of the layouts says nothing about the others.
    if run.probe is not None or run.status in ("completed", "diverged", "out_of_memory"):
        return None
    reason = run.reason or run.status.replace("_", " ")
    if "ddp_find_unused_parameters" in reason or "find_unused_parameters" in reason:
        names = () if runs.reference is None or runs.reference.probe is None else runs.reference.probe.unused
        told = some(names)
        return Cause.of(
            "unused_parameters",
            f"under DDP training stops, because parameters get no gradient{f' ({told})' if told else ''}",
        )
    return Cause.of("crash", f"{layout_words(run.layout)} did not train ({reason})")


def _of_differing(runs: Runs, differing: Sequence[Layout]) -> list[Cause]:
    causes = []
    base: Stage = "quiet" if runs.draws and runs.pairs("quiet") else "plain"
    still, frozen, noise = runs.pairs(base), runs.pairs("frozen"), runs.noise()
    for layout in differing:
        plain = runs.pairs()[layout]
        pair = still.get(layout)
        restless = noise is not None and noise > NOTICED * plain.comparison.tolerance
        if runs.draws and restless:
            causes.append(randomness(noise))
        if pair is None:
            causes.append(_unknown(plain, layout))
            continue
        if not pair.differs:
            continue
        if pair.comparison.relation != "mixed":
            causes.append(_by_relation(runs, layout, pair))
            continue
        moved, layers = runs.other_data(layout), pair.reference.batch_norm or pair.other.batch_norm
        varying = restless and (moved or any(step.drew for step in pair.other.steps))
        if moved and not (varying and runs.source in CONTROLLED):
            causes.append(
                Cause.of("other_examples", "the layouts read other examples: the data depend on batch size or rank")
            )
        elif varying:
            causes += _under_noise(runs, layout, noise, layers)
        else:
            thawed = frozen.get(layout)
            if layers and thawed is not None and thawed.comparison.relation != "mixed":
                causes.append(batch_statistics(layers))
                pair = thawed
            if pair.differs:
                causes.append(_by_relation(runs, layout, pair))
    return causes


def _by_relation(runs: Runs, layout: Layout, pair: Pair) -> Cause:
    comparison = pair.comparison
    if comparison.relation == "other_loss":
        return Cause.of(
            "loss_alone",
            f"the losses differ by {share(comparison.loss_difference)} while the gradients agree to "
            f"{number(comparison.gradient_difference)}",
        )
    if comparison.relation == "scaled" and comparison.scale is not None:
        return scaled(comparison.scale, pair.reference.layout, layout)
    if comparison.relation == "reweighted":
        return reweighted(comparison.weights, pair.other.steps[comparison.step - 1].examples)
    return _mixed(runs, layout, pair)


def _mixed(runs: Runs, layout: Layout, pair: Pair) -> Cause:
    step = pair.comparison.step - 1
    ours, theirs, tolerance = pair.reference.steps[step], pair.other.steps[step], pair.comparison.tolerance
    if theirs.spread is not None and theirs.spread > tolerance:
        return Cause.of(
            "unsynchronised",
            f"the ranks of {layout_words(layout)} end a backward with gradients that differ by {share(theirs.spread)}",
        )
    fitted = fit_weights(ours.whole, theirs.micro)
    if fitted is not None and theirs.micro is not None:
        apart = float(np.linalg.norm(theirs.whole - theirs.micro.mean(0)))
        mean_of_parts = apart <= EXPLAINED * tolerance * float(np.linalg.norm(theirs.whole))
        beyond_rounding = fitted[1] > max(EXPLAINED * tolerance, LEAST_EXPLAINED)
        # The step's gradient is the mean of the parts, the parts hold the same examples, nothing is random: then the
        # gradient of the whole is no sum over examples.
        if mean_of_parts and beyond_rounding and _same_examples(runs, layout):
            return Cause.of(
                "across_examples",
                "the loss or a layer compares the examples of a batch with each other: no weights make the gradients "
                f"of the parts into that of the whole ({share(fitted[1])} is left)",
            )
    return _unknown(pair, layout)


def _same_examples(runs: Runs, layout: Layout) -> bool:
    return same_rows(runs.pairs()[layout]) is True or (runs.source in CONTROLLED and not runs.other_data(layout))


def _unknown(pair: Pair, layout: Layout) -> Cause:
    worst = max(pair.comparison.steps, key=lambda step: step.parameter_difference)
    where = "" if worst.parameter is None else f", most in {worst.parameter}"
    return Cause.of("unknown", f"the cause is not known ({layout_words(layout)}{where})")


def _under_noise(runs: Runs, layout: Layout, noise: float | None, layers: Sequence[tuple[str, str]]) -> list[Cause]:
    pair = runs.pairs()[layout]
    causes = [randomness(noise)]
    if layers:
        causes.append(batch_statistics(layers))
    ours, theirs, micro = pair.reference.steps, pair.other.steps, pair.other.micro_batches
    norms = _ratio([_norm(step.norms) for step in ours], [_norm(step.norms) for step in theirs])
    losses = _ratio([_mean(step.losses) for step in ours], [_mean(step.losses) for step in theirs])
    if norms is not None and losses is not None and max(abs(one / micro - 1) for one in (norms, losses)) <= NOISY_WHOLE:
        causes.append(summed(norms, pair.reference.layout, layout))
    elif not layers and (noise is None or pair.comparison.gradient_difference > BEYOND_NOISE * noise):
        causes.append(_unknown(pair, layout))
    return causes


def _norm(values: FloatArray) -> float:
    return float(np.linalg.norm(values))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else math.nan


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    below = math.fsum(theirs)
    ratio = math.fsum(ours) / below if below else math.nan
    return ratio if math.isfinite(ratio) else None


def _merged(causes: Sequence[Cause]) -> list[Cause]:
    """Return each kind once: an exact cause before randomness, and what is not known last."""
    first: dict[CauseKind, Cause] = {}
    for cause in causes:
        first.setdefault(cause.kind, cause)
    return sorted(first.values(), key=lambda cause: (cause.kind == "unknown", cause.kind == "randomness"))
