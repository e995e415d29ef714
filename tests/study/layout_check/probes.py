"""Measurements of layouts whose gradients are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lrscale.study.layout_check.probe import Probe
from lrscale.study.layout_check.runs import Run, Stage
from lrscale.units import Layout

FloatArray = npt.NDArray[np.float64]
PARAMETERS, WIDTH, BUCKETS = 4, 16, 64
BATCH = 8
WHOLE = Layout(per_device_batch_size=8)
RANKS = Layout(per_device_batch_size=4, devices=2)
FORWARDS = Layout(per_device_batch_size=4, accumulate=2)
BOTH = Layout(per_device_batch_size=2, accumulate=2, devices=2)
LAYOUTS = (WHOLE, RANKS, FORWARDS, BOTH)


@dataclass(frozen=True)
class Module:
    """A module by the gradient and loss that it has on some examples.

    Per-example gradients are random vectors; `combine` makes the gradient of a micro-batch of them, and of its layout.
    """

    combine: Callable[[FloatArray, Layout], FloatArray] = lambda examples, layout: examples.mean(0)
    rounding: float = 0.0
    drew: bool = False
    roundoff: float = 2.0**-24
    batch_norm: tuple[tuple[str, str], ...] = ()
    identical: bool = False
    steps: int = 3

    def probe(self, layout: Layout, *, seed: int = 0, course: int = 0) -> Probe:
        """Return what a probe of this module measures; `course` is that of its rounding and of its random numbers."""
        steps = [self._step(layout, seed, step, course) for step in range(self.steps)]
        found = Probe.of(
            layout,
            {
                "precision": "32-true",
                "roundoff": self.roundoff,
                "automatic": True,
                "names": [f"layer.{place}" for place in range(PARAMETERS)],
                "sizes": [WIDTH] * PARAMETERS,
                "unused": [],
                "batch_norm": [list(layer) for layer in self.batch_norm],
                "steps": steps,
            },
        )
        assert found is not None
        return found

    def _step(self, layout: Layout, seed: int, step: int, course: int) -> dict[str, Any]:
        examples = np.random.default_rng((seed, step)).normal(1.0, 1.0, (BATCH, PARAMETERS * WIDTH))
        noise = np.random.default_rng((seed, step, course, layout.world_size, layout.accumulate))
        size, ranks = layout.per_device_batch_size, layout.world_size
        micro: list[list[FloatArray]] = [[] for _ in range(ranks)]
        hashes: list[list[str]] = [[] for _ in range(ranks)]
        rows: list[list[int]] = [[] for _ in range(ranks)]
        for forward in range(layout.accumulate):
            for rank in range(ranks):
                part = forward if self.identical else forward * ranks + rank
                chosen = examples[part * size : (part + 1) * size]
                gradient = self.combine(chosen, layout)
                micro[rank].append(gradient * (1 + self.rounding * noise.normal(size=gradient.shape)))
                hashes[rank].append(f"{abs(hash((seed, step, part, size))):016x}"[:16])
                rows[rank].append(sum(int(1e6 * abs(one.sum())) for one in chosen))
        whole = np.mean([one for rank in micro for one in rank], axis=0)
        return {
            "losses": [[float(one.mean()) for one in rank] for rank in micro],
            "examples": [[size] * layout.accumulate for _ in range(ranks)],
            "hashes": hashes,
            "rows": rows,
            "shapes": [["64"] * layout.accumulate for _ in range(ranks)],
            "drew": self.drew,
            "spread": 0.0,
            "micro": [[one.tolist() for one in rank] for rank in micro],
            "whole": whole.tolist(),
            "norms": np.linalg.norm(whole.reshape(PARAMETERS, WIDTH), axis=1).tolist(),
            "sketches": whole.reshape(PARAMETERS, WIDTH).tolist(),
        }


def run_of(module: Module, layout: Layout, stage: Stage = "plain", *, course: int = 0, seed: int = 0) -> Run:
    """Return the finished trial of a module."""
    return Run(
        layout=layout,
        stage=stage,
        status="completed",
        reason=None,
        probe=module.probe(layout, course=course, seed=seed),
        source="examples",
    )


def plain_runs(module: Module, layouts: Sequence[Layout] = LAYOUTS) -> list[Run]:
    """Return the plain trials of a module."""
    return [run_of(module, layout) for layout in layouts]
