"""The LR slices of one group: noise pooled where there are no replicates, and large slices condensed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from lrscale.laws import FitStatus, LawRow, LRSliceFit, OptimalLRFit, fit_lr_slice
from lrscale.laws.surface.surface import fit_lr_surface
from lrscale.laws.surface.surface_fit import LRSurfaceFit

FloatArray = npt.NDArray[np.float64]

MOST_RUNS = 240
"""Runs of a slice up to which every run enters its fit; above, runs at one LR are averaged in blocks. The time of a fit
grows with the cube of the runs: 240 take 0.4 s, 600 take 12 s."""
_LEVELS = 48
_BLOCKS = 4
# A slice with fewer degrees of freedom than this takes the noise of its group.
_FEW = 8.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRuns:
    """The runs of one batch size."""

    lr: FloatArray
    loss: FloatArray
    """NaN where the run diverged."""
    seed: tuple[object, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSlices:
    """The fitted slices of a group."""

    fits: Mapping[float, LRSliceFit]
    """Batch size to fit, ascending."""
    surface: LRSurfaceFit | None
    """The fit of all batch sizes in one stage, made where slices are too thin to be fitted alone."""
    notes: tuple[str, ...]


def fit_slices(
    slices: Mapping[float, SliceRuns], *, tolerance: float, confidence: float, resamples: int, random_seed: int
) -> GroupSlices:
    """Fit the slice of every batch size.

    Slices that leave fewer than 8 degrees of freedom for their noise are fitted with the noise pooled over the group's
    slices, which `fit_lr_slice` ignores where a slice contradicts it. When slices have too few LRs to be fitted alone,
    all are fitted in one surface, and those slices take their best LR from it.
    """
    notes: list[str] = []
    condensed = {size: _condensed(own) for size, own in slices.items()}
    big = [size for size, own in slices.items() if own.lr.size > MOST_RUNS]
    if big:
        notes.append(
            f"At batch {listed(big)} there are more than {MOST_RUNS} runs: runs at one LR were averaged in up to "
            f"{_BLOCKS} blocks for the fit, and their seeds are not used."
        )

    def fit(own: SliceRuns, noise: tuple[float, float] | None = None) -> LRSliceFit:
        return fit_lr_slice(
            own.lr,
            own.loss,
            seed=list(own.seed),
            noise_sd=None if noise is None else noise[0],
            noise_df=30.0 if noise is None else noise[1],
            tolerance=tolerance,
            confidence=confidence,
            resamples=resamples,
            random_seed=random_seed,
        )

    fits = {size: fit(own) for size, own in condensed.items()}
    pooled = _pooled(fits)
    if pooled is not None:
        poor = [size for size, own in fits.items() if _lacks_noise(own) and pooled[1] > 1.5 * (own.noise_df or 0.0)]
        for size in poor:
            fits[size] = fit(condensed[size], pooled)
        if poor:
            notes.append(
                f"At batch {listed(poor)} too few runs tell the noise: the median of the group's slices is used, "
                f"{pooled[0]:.2g} with {pooled[1]:.0f} degrees of freedom."
            )
    thin = [size for size, own in fits.items() if own.status is FitStatus.TOO_FEW_POINTS]
    surface = None
    if thin and len(fits) > 1:
        surface = _surface(condensed, confidence, resamples, random_seed)
        if surface is not None:
            fits = {size: _from_surface(size, own, surface) if size in thin else own for size, own in fits.items()}
            notes.append(f"At batch {listed(thin)} the best LR comes from one surface fitted to all batch sizes.")
        else:
            notes.append(f"At batch {listed(thin)} there are too few LRs, and one surface over all does not help.")
    return GroupSlices(fits=fits, surface=surface, notes=tuple(notes))


def surface_law(surface: LRSurfaceFit) -> OptimalLRFit:
    """Return the law of a surface in the form of the law through the optima of slices."""
    return OptimalLRFit(
        status=surface.status,
        reason=f"From one surface over all batch sizes: {surface.reason}",
        law=surface.law,
        runner_up=surface.runner_up,
        aicc_difference=None,
        table=tuple(
            LawRow(
                law=row.law,
                parameters=row.parameters,
                aicc=None,
                weight=row.weight,
                loo_error=None,
                p_value=None,
                verdict="cannot tell",
            )
            for row in surface.table
        ),
        knee=None,
        knee_interval=None,
        lack_of_fit_sd=None,
        batch_sizes=surface.batch_sizes,
        best_lrs=surface.best_lrs,
        slice_status=("surface",) * len(surface.batch_sizes),
        fitted=tuple(float(value) for value in surface.predict(surface.batch_sizes)[0]),
        draws=surface.draws,
        confidence=surface.confidence,
    )


def _lacks_noise(own: LRSliceFit) -> bool:
    return own.status is FitStatus.TOO_FEW_POINTS or (own.noise_df is not None and own.noise_df < _FEW)


def _pooled(fits: Mapping[float, LRSliceFit]) -> tuple[float, float] | None:
    """Return the noise of the group and its degrees of freedom, or None with fewer than two slices that tell it.

    The median of the slices' own: one slice with a wild run must not widen the others. For a normal sample the median
    has 64 % of the efficiency of the mean, hence the degrees of freedom.
    """
    known = [
        (own.noise_sd, own.noise_df)
        for own in fits.values()
        if own.status is FitStatus.OK and own.noise_sd and own.noise_df
    ]
    if len(known) < 2:
        return None
    return float(np.median([sd for sd, _ in known])), 0.64 * math.fsum(df for _, df in known)


def _surface(
    slices: Mapping[float, SliceRuns], confidence: float, resamples: int, random_seed: int
) -> LRSurfaceFit | None:
    fit = fit_lr_surface(
        np.concatenate([own.lr for own in slices.values()]),
        np.concatenate([np.full(own.lr.size, size) for size, own in slices.items()]),
        np.concatenate([own.loss for own in slices.values()]),
        seed=[seed for own in slices.values() for seed in own.seed],
        confidence=confidence,
        resamples=resamples,
        random_seed=random_seed,
    )
    return fit if fit.ok else None


def _from_surface(size: float, own: LRSliceFit, surface: LRSurfaceFit) -> LRSliceFit:
    if size not in surface.batch_sizes:
        return own
    place = surface.batch_sizes.index(size)
    best, interval = surface.best_lrs[place], surface.intervals[place]
    if best is None:
        return own
    return replace(
        own,
        status=FitStatus.OK,
        reason=f"Too few LRs to be fitted alone; from the surface over all batch sizes: {surface.reason}",
        best_lr=best,
        interval=interval,
        min_loss=surface.min_losses[place],
    )


def _condensed(own: SliceRuns) -> SliceRuns:
    """Average runs at one LR in blocks, so that a slice of any size can be fitted."""
    if own.lr.size <= MOST_RUNS:
        return own
    levels = np.unique(own.lr)
    x = np.log(own.lr)
    if levels.size > _LEVELS:
        # LRs drawn at random: bins are so narrow that the slice is straight within one.
        edges = np.linspace(x.min(), x.max(), _LEVELS + 1)
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, _LEVELS - 1)
    else:
        place = np.searchsorted(levels, own.lr)
    lrs, losses = [], []
    for level in np.unique(place):
        rows = np.flatnonzero(place == level)
        centre = math.exp(float(np.mean(x[rows])))
        for block in range(min(_BLOCKS, rows.size)):
            part = rows[block::_BLOCKS]
            held = np.isfinite(own.loss[part])
            lrs.append(centre)
            losses.append(float(np.mean(own.loss[part][held])) if 2 * held.sum() > part.size else math.nan)
    return SliceRuns(lr=np.array(lrs), loss=np.array(losses), seed=(None,) * len(lrs))


def listed(sizes: Sequence[float], most: int = 6) -> str:
    """Return batch sizes as people list them.

    Examples
    --------
    >>> listed([16.0, 32.0]), listed(range(1, 10))
    ('16, 32', '1, 2, 3, 4, 5, 6 and 3 more')
    """
    return ", ".join(f"{size:g}" for size in sizes[:most]) + (
        f" and {len(sizes) - most} more" if len(sizes) > most else ""
    )
