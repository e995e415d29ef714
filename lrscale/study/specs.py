"""From a recipe's settings to trial specs and layouts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lrscale.errors import LrscaleError
from lrscale.recipe import Recipe
from lrscale.recipe.experiments import NO_COMPANIONS
from lrscale.schedules import brings_rise, build_schedule, is_pure
from lrscale.schedules.warmup import WarmupShape
from lrscale.store import ScheduleSpec, TrialSpec
from lrscale.units import Duration, Layout, split_global_batch

WARMUP_FRACTION = 0.05
"""Share of a trial spent in warm-up where the recipe has no `scaling` to take it from: the default of that."""
SAFE_LR = 1e-6
"""Peak LR of trials that measure a machine: small enough that none diverges. Neither the time nor the memory of a step
depends on it."""
COORDINATES = "coordinates"
"""Instrument of the trials that compare the outputs of a module's parts between widths."""
ANY_LR = 1e-3
"""Peak LR of a spec that stands for any trial of its size."""


def make_spec(
    recipe: Recipe,
    *,
    peak_lr: float,
    batch_size: int,
    horizon: Duration,
    schedule: str,
    settings: Mapping[str, Any],
    seed: int,
    warmup_fraction: float = 0.0,
    validations: int | None = None,
    training_examples: int | None = None,
    layout: Layout | None = None,
    stop_on_divergence: bool = True,
    instruments: Mapping[str, Mapping[str, Any]] | None = None,
    validation_follows: bool = False,
    companions: str | None = None,
    warmup: Duration | float | None = None,
    warmup_shape: WarmupShape = "linear",
    other_optimizer: Mapping[str, Any] | None = None,
) -> TrialSpec:
    """Return the spec of a trial.

    Parameters
    ----------
    recipe : Recipe
        Its task and first seed.
    peak_lr : float
        LR at factor 1.
    batch_size : int
        Global batch size in examples.
    horizon : Duration
        Length; the steps are rounded down.
    schedule : str
        A registered name, or ``"module"``.
    settings : mapping
        The schedule's own fields.
    seed : int
        Replicate number, counted from 0; the recipe's seed is added.
    warmup_fraction : float, optional
        Share of the steps spent warming up. Default 0.
    validations : int or None, optional
        Validations over the horizon, the last one at its end. Default None: no validation.
    training_examples : int or None, optional
        Size of an epoch; needed for horizons in epochs.
    layout : Layout or None, optional
        Pins the layout. Default None.
    stop_on_divergence : bool, optional
        Default True.
    instruments : mapping or None, optional
        What the trial is there to measure: name -> settings. Default None: only its loss.
    validation_follows : bool, optional
        Whether validation batches grow with the training's, as in the job. Default False.
    companions : str or None, optional
        Policy by which betas, eps and weight decay move with the batch size. Default None: the recipe's first one.
    warmup : Duration, float or None, optional
        Length of the warm-up, or its share of the steps, in front of any schedule, in place of `warmup_fraction`.
        Default None: `warmup_fraction` in front of schedules that need a warm-up.
    warmup_shape : {"linear", "cosine"}, optional
        Default ``linear``.
    other_optimizer : mapping or None, optional
        What takes the place of the module's own optimizer. Default None: nothing.

    Raises
    ------
    LrscaleError
        When the warm-up leaves no step of the horizon to what follows.
    """
    if recipe.task.schedule == "module" and schedule != "ramp":
        schedule, settings, warmup_fraction, warmup = "module", {}, 0.0, None
    steps = horizon.steps(batch_size, dataset_size=training_examples)
    rise = round(warmup_fraction * steps)
    if warmup is not None:
        rise = warmup_steps(warmup, steps, batch_size, training_examples)
    elif brings_rise(schedule):
        rise = 0
    if schedule == "inverse_sqrt" and rise and "timescale_fraction" not in settings:
        # Behind a warm-up of w steps the usual form is sqrt(w / t): the time scale is the warm-up's length.
        settings = {**settings, "timescale_fraction": round(rise / (steps - rise), 6)}
    return TrialSpec(
        task=recipe.task.resolved(recipe.root),
        schedule=ScheduleSpec(
            name=schedule,
            settings=dict(settings),
            warmup_steps=rise,
            # Without a warm-up its shape decides nothing, and would make two trials of one.
            warmup_shape=warmup_shape if rise else "linear",
        ),
        peak_lr=peak_lr,
        global_batch_size=batch_size,
        horizon=steps,
        seed=recipe.seed + seed,
        validate_every=None if validations is None else math.ceil(steps / validations),
        stop_on_divergence=stop_on_divergence,
        layout=layout,
        instruments={name: dict(own) for name, own in (instruments or {}).items()},
        validation_follows=validation_follows,
        other_optimizer=dict(other_optimizer or {}),
        # A trial that measures a layout asks nothing of its loss.
        companions=companions_of(recipe, batch_size, companions) if layout is None else {},
    )


def warmup_steps(warmup: Duration | float, steps: int, batch_size: int, training_examples: int | None = None) -> int:
    """Return the steps of a stated warm-up.

    Parameters
    ----------
    warmup : Duration or float
        Its length, or its share of the steps.
    steps, batch_size : int
        Of the trial.
    training_examples : int or None, optional
        Size of an epoch; needed for lengths in epochs.

    Raises
    ------
    LrscaleError
        When it leaves no step of the horizon to what follows.

    Examples
    --------
    >>> warmup_steps(Duration(4000, "examples"), 1000, 64), warmup_steps(0.05, 1000, 64)
    (62, 50)
    """
    rise = (
        warmup.steps(batch_size, dataset_size=training_examples)
        if isinstance(warmup, Duration)
        else round(warmup * steps)
    )
    if rise >= steps:
        raise LrscaleError(
            f"a warm-up of {warmup} takes {rise} of {steps} steps at batch {batch_size}, all of them",
            hint="shorten it, state it as a share of the horizon, or lengthen the horizon",
        )
    return rise


def companions_of(recipe: Recipe, batch_size: int, policy: str | None = None) -> dict[str, Any]:
    """Return a spec's companions; empty where nothing moves, so that such trials are the same under every policy.

    Parameters
    ----------
    recipe : Recipe
        Its ``experiments.scaling`` says from which batch size they move.
    batch_size : int
        Global batch size of the trial.
    policy : str or None, optional
        Default None: the recipe's first one.
    """
    scaling = recipe.experiments.scaling
    if scaling is None or scaling.reference_batch_size in (None, batch_size):
        return {}
    chosen = scaling.companions[0] if policy is None else policy
    if chosen == NO_COMPANIONS:
        return {}
    return {"policy": chosen, "reference_batch_size": scaling.reference_batch_size}


def mean_factor(schedule: str, settings: Mapping[str, Any]) -> float:
    """Return the mean over its horizon of a schedule's factor; a half where it is not known before it has run.

    Examples
    --------
    >>> mean_factor("constant", {}), round(mean_factor("cosine", {}), 2)
    (1.0, 0.5)
    """
    if not is_pure(schedule):
        return 0.5
    built = build_schedule(schedule, settings)
    return sum(built.factor(step, 1000) for step in range(1000)) / 1000


def riding_instruments(recipe: Recipe, spec: TrialSpec) -> dict[str, Mapping[str, Any]]:
    """Return the instruments that ride on a trial besides those of its spec.

    Where its speed is measured only the one that says where the time goes, and none beside others of a pinned layout;
    none where the batch grows, of which each would have to know.
    """
    if spec.batch_schedule is not None or spec.branch is not None:
        return {}
    if spec.layout is not None:
        return {} if spec.instruments else {"step_time": {}}
    # What these few steps without warm-up measure besides would say nothing of training.
    return {} if COORDINATES in spec.instruments else recipe.instruments.riding()


def trial_layout(recipe: Recipe, spec: TrialSpec, fits: int | None = None) -> Layout:
    """Return where a trial runs: its pinned layout, or the recipe's split of its batch, the largest one if it grows.

    Parameters
    ----------
    recipe : Recipe
        Its devices and bounds.
    spec : TrialSpec
        The trial.
    fits : int or None, optional
        Largest per-device batch that fits within the memory. Default None: not known.
    """
    if spec.layout is not None:
        return spec.layout
    layout = recipe.layout
    bounds = [layout.max_per_device_batch_size, fits if layout.per_device_batch_size is None else None]
    return split_global_batch(
        spec.global_batch_size * (1 if spec.batch_schedule is None else spec.course.largest),
        devices=layout.devices,
        num_nodes=layout.num_nodes,
        per_device_batch_size=layout.per_device_batch_size,
        max_per_device_batch_size=min((bound for bound in bounds if bound), default=None),
    )
