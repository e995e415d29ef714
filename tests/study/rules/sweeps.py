"""Sweeps whose truth is known, as rules of thumb read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lrscale.laws import fit_lr_slice, fit_optimal_lr
from lrscale.recipe import Recipe
from lrscale.store import ScheduleSpec, StudyView, Trajectory, Trial, TrialRecord, TrialSpec
from lrscale.study.experiments.base import Context
from lrscale.study.finding import Finding
from lrscale.study.rules.evidence import Evidence

TASK = {"model": {"class_path": "synthetic.Net"}}
EXAMPLES = 16_384


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Losses are level(B) + cost (x^-0.5 + x / 2 - 1.5) at x = lr / best(B), plus what seeds and noise add."""

    sizes: Sequence[int] = (64, 128, 256, 512)
    seeds: int = 3
    factors: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)
    """LRs as multiples of the best one of their batch size."""
    best: Callable[[float], float] = lambda size: 0.01 * (size / 64) ** 0.5
    level: Callable[[float], float] = lambda size: 1.0
    cost: float = 0.5
    gap: Callable[[float, float], float] = lambda size, x: 0.1
    """Validation minus training loss at x times the best LR."""
    course: Callable[[float, float], float] = lambda size, step: 0.0
    """Training loss above the final one after some steps."""
    noise: float = 0.002
    seed_noise: float = 0.02
    gap_noise: float = 0.002
    curve_noise: float = 0.01
    warmup_fraction: float = 0.02
    monitor: str = "val_loss"
    best_place: Callable[[Mapping[str, Any]], float] = lambda init_args: 1.0
    """Share of the run at which validation is lowest."""
    place_noise: float = 0.0
    init_args: Mapping[str, Any] = field(default_factory=dict)

    def trials(self, rng: np.random.Generator) -> tuple[dict[int, list[Trial]], dict[str, Trajectory]]:
        """Return the trials by batch size, and their trajectories."""
        shifts = self.seed_noise * rng.standard_normal(self.seeds)
        found: dict[int, list[Trial]] = {}
        curves: dict[str, Trajectory] = {}
        for size in self.sizes:
            horizon = EXAMPLES // size
            for x in self.factors:
                for seed in range(self.seeds):
                    loss = self.level(size) + self.cost * (x**-0.5 + x / 2 - 1.5) + shifts[seed]
                    loss += self.noise * rng.standard_normal()
                    spec = TrialSpec(
                        task={**TASK, "init_args": dict(self.init_args)},
                        schedule=ScheduleSpec(name="cosine", warmup_steps=round(self.warmup_fraction * horizon)),
                        peak_lr=float(f"{self.best(size) * x:.6g}"),
                        global_batch_size=size,
                        horizon=horizon,
                        seed=seed,
                    )
                    gap = self.gap(size, x) + self.gap_noise * rng.standard_normal()
                    record = TrialRecord(
                        trial_id=spec.trial_id,
                        status="completed",
                        final_loss=loss,
                        final_train_loss=loss - gap,
                        monitor=self.monitor,
                        steps=horizon,
                        examples=spec.examples,
                    )
                    found.setdefault(size, []).append(Trial(spec, record))
                    if x == 1:
                        curves[spec.trial_id] = self._curve(spec, loss, rng)
        return found, curves

    def _curve(self, spec: TrialSpec, final: float, rng: np.random.Generator) -> Trajectory:
        step = np.arange(1.0, spec.horizon + 1)
        size = spec.global_batch_size
        train = final + np.array([self.course(size, before) for before in step - 1])
        train += self.curve_noise * rng.standard_normal(step.size)
        place = self.best_place(self.init_args) + self.place_noise * rng.standard_normal()
        val = np.full(step.size, np.nan)
        at = np.unique(np.linspace(spec.horizon / 20, spec.horizon, 20).round().astype(int)) - 1
        val[at] = final + (step[at] / spec.horizon - place) ** 2
        return Trajectory({"step": step, "examples": step * size, "train_loss": train, "val_loss": val})

    def evidence(
        self,
        random: int = 0,
        *,
        margin: float = 0.005,
        findings: Mapping[str, Finding] | None = None,
        experiments: Mapping[str, Any] | None = None,
        law: bool = False,
    ) -> Evidence:
        """Return what rules read of a sweep drawn with a random seed."""
        trials, curves = self.trials(np.random.default_rng(random))
        fits = {size: slice_of(some) for size, some in trials.items()}
        scaling = Finding(
            key="scaling",
            title="",
            status="ok",
            sentence="",
            data={
                "horizon_examples": EXAMPLES,
                "schedule": "cosine",
                "seeds": self.seeds,
                "cells": [
                    {"batch_size": size, "slice": fits[size].to_dict(), "trials": [one.trial_id for one in some]}
                    for size, some in trials.items()
                ],
                "law": fit_optimal_lr(list(fits), list(fits.values())).to_dict() if law else None,
            },
        )
        return evidence_of(
            [one for some in trials.values() for one in some],
            curves,
            {"scaling": scaling, **(findings or {})},
            margin=margin,
            experiments=experiments,
        )


def slice_of(trials: Sequence[Trial]) -> Any:
    """Return the fitted slice of some trials."""
    return fit_lr_slice(
        [one.spec.peak_lr for one in trials],
        [math.nan if one.record.final_loss is None else one.record.final_loss for one in trials],
        seed=[one.spec.seed for one in trials],
    )


def evidence_of(
    trials: Sequence[Trial],
    curves: Mapping[str, Trajectory],
    findings: Mapping[str, Finding],
    *,
    margin: float = 0.005,
    experiments: Mapping[str, Any] | None = None,
) -> Evidence:
    """Return what rules read of some trials and findings."""
    recipe = Recipe.model_validate({"name": "rules", "task": TASK, "experiments": {"rules": {}, **(experiments or {})}})
    view = StudyView({one.trial_id: one for one in trials}, lambda trial_id: curves.get(trial_id, Trajectory()))
    return Evidence(Context(recipe=recipe, view=view, facts={}, findings=findings), margin)


def finding(key: str, **data: Any) -> Finding:
    """Return the finding of an experiment with some data."""
    return Finding(key=key, title=key, status="ok", sentence="", data=data)
