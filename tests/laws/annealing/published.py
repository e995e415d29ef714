"""Losses of a 25M-parameter model under seven schedules, one point in nine of the published logs.

Source: Luo, Wen, Hu, Sun, et al. "A multi-power law for loss curve prediction across learning rate schedules."
arXiv:2503.12811 (2025); code and data thu-yao-01-luo/MultiPowerLaw, MIT licence. Peak LR 3e-4, warm-up of 2160 steps.
"""

from __future__ import annotations

import numpy as np

from lrscale.laws.annealing import Curve, LRTrace

PEAK, WARMUP = 3e-4, 2160

_COSINE = (
    (2160, 4.1114), (3312, 3.7813), (4464, 3.6611), (5616, 3.5923), (6768, 3.5447), (7920, 3.5076), (9072, 3.4764),
    (10224, 3.4517), (11376, 3.4302), (12528, 3.4094), (13680, 3.3911), (14832, 3.3756), (15984, 3.3614),
    (17136, 3.3479), (18288, 3.3358), (19440, 3.3261), (20592, 3.3178), (21744, 3.3115), (22896, 3.3068),
    (23920, 3.3044),
)  # fmt: skip
_CONSTANT = (
    (2176, 4.101), (3328, 3.793), (4480, 3.6686), (5632, 3.5976), (6784, 3.5497), (7936, 3.5149), (9088, 3.4892),
    (10240, 3.4649), (11392, 3.4471), (12544, 3.4321), (13696, 3.4186), (14848, 3.4079), (16000, 3.3982),
    (17152, 3.3884), (18304, 3.3784), (19456, 3.372), (20608, 3.3642), (21760, 3.3582), (22912, 3.3532),
    (23936, 3.3473),
)  # fmt: skip
_DROP = (
    (2176, 4.0723), (3328, 3.7828), (4480, 3.6642), (5632, 3.5935), (6784, 3.5487), (7936, 3.5144), (8128, 3.4647),
    (8256, 3.4549), (8512, 3.4462), (9024, 3.4366), (10176, 3.4226), (11328, 3.4109), (12480, 3.4013),
    (13632, 3.3935), (14144, 3.3901),
)  # fmt: skip

TRAINED = {"cosine": _COSINE, "constant": _CONSTANT, "drop to 0.3": _DROP}

FINAL_LOSSES = {"constant_72000": 3.2573, "cosine_72000": 3.2038, "wsd": 3.2776, "wsd exponential": 3.2766}
"""Last published losses of schedules that no test fits."""

_LAST = {
    "cosine": 24_000,
    "constant": 24_000,
    "drop to 0.3": 14_144,
    "constant_72000": 71_936,
    "cosine_72000": 72_000,
    "wsd": 23_904,
    "wsd exponential": 23_904,
}


def published_trace(name: str) -> LRTrace:
    """Return the LR history of a published schedule."""
    step = np.arange(1, _LAST[name] + 1, dtype=np.float64)
    u = np.maximum(step - WARMUP, 0) / (_LAST[name] - WARMUP)
    decay = np.clip((step - 20_000) / 4000, 0, 1)
    factor = {
        "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * u)),
        "constant": np.ones_like(u),
        "drop to 0.3": np.where(step <= 8000, 1.0, 0.3),
        "constant_72000": np.ones_like(u),
        "cosine_72000": 0.1 + 0.45 * (1 + np.cos(np.pi * u)),
        "wsd": 1 - 0.9 * decay,
        "wsd exponential": 0.1**decay,
    }[name]
    return LRTrace.from_steps(PEAK * np.where(step < WARMUP, step / WARMUP, factor))


def published_curve(name: str) -> Curve:
    """Return a published curve."""
    step, loss = np.array(TRAINED[name]).T
    return Curve(name=name, trace=published_trace(name), step=step, loss=loss)
