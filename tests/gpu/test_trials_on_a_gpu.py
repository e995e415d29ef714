"""Trials on a GPU: the losses of the processor, the instruments, one rank of NCCL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lrscale_test_trials import Ran, Trials, make_spec, make_task

from lrscale.laws.noise_scale.result import RunNoiseScale
from lrscale.store import TrialSpec

pytestmark = pytest.mark.gpu

BATCH, HORIZON = 64, 60
MEASURED: dict[str, Any] = {
    "noise_scale": {"budget": None, "split_every": 2, "parts": 4, "preconditioned_every": 3},
    "stability": {},
}


def spec(*, lr: float = 3e-3, seed: int = 0, init: dict[str, Any] | None = None, **trainer: Any) -> TrialSpec:
    task = make_task("lrscale.zoo.DigitsMLP", "lrscale.zoo.Digits", init={"width": 64, **(init or {})}, trainer=trainer)
    return make_spec(task, lr=lr, batch=BATCH, horizon=HORIZON, schedule="cosine", warmup=6, every=20, seed=seed)


def whole(ran: Ran) -> RunNoiseScale:
    assert ran.record.status == "completed", ran.record.reason
    return RunNoiseScale.from_dict(ran.record.measurements["noise_scale"]["whole"])


@pytest.mark.parametrize(("precision", "near"), [("32-true", 2e-4), ("bf16-mixed", 0.03), ("16-mixed", 0.01)])
def test_losses_are_those_of_the_processor(on_gpu: Trials, on_cpu: Trials, precision: str, near: float) -> None:
    ran = on_gpu.one(spec(precision=precision))
    exact = on_cpu.one(spec())
    assert ran.record.status == "completed", ran.record.reason
    assert ran.record.environment["accelerator"] == "gpu"
    assert ran.record.environment["device"] == torch.cuda.get_device_name()
    # A scaler of 16-bit gradients that overflowed would have left out steps; it begins at 65,536 and may, a few times.
    assert (ran.record.steps, ran.record.examples) == (HORIZON, HORIZON * BATCH)
    assert ran.lrs == exact.lrs
    assert ran.record.initial_loss == pytest.approx(exact.record.initial_loss, rel=near)
    assert ran.record.final_loss == pytest.approx(exact.record.final_loss, rel=0.2 if precision == "16-mixed" else near)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_instruments_change_no_bit_of_a_trial(on_gpu: Trials, precision: str) -> None:
    plain, again = on_gpu.one(spec(precision=precision)), on_gpu.one(spec(precision=precision))
    measured = on_gpu.one(spec(precision=precision), instruments=MEASURED)
    assert measured.record.status == "completed", measured.record.reason
    # What the device itself does not repeat cannot be asked of the instruments.
    assert plain.train_losses == again.train_losses
    assert measured.train_losses == plain.train_losses
    assert measured.record.final_loss == plain.record.final_loss
    assert whole(measured).total.steps >= HORIZON // 3


@pytest.mark.parametrize(("precision", "near"), [("32-true", 0.02), ("bf16-mixed", 0.15), ("16-mixed", 0.15)])
def test_the_noise_scale_is_that_of_the_processor(on_gpu: Trials, on_cpu: Trials, precision: str, near: float) -> None:
    # SGD at a small LR: both stay on one path, and gradients do not depend on how far rounding has led them apart.
    calm = {"lr": 1e-3, "init": {"optimizer": "sgd"}}
    here = whole(on_gpu.one(spec(precision=precision, **calm), instruments=MEASURED))
    there = whole(on_cpu.one(spec(**calm), instruments=MEASURED))
    assert here.total.value == pytest.approx(there.total.value, rel=near)
    assert here.total.noise_trace == pytest.approx(there.total.noise_trace, rel=near)


def test_a_rate_that_diverges_in_16_bits_ends_as_diverged(on_gpu: Trials) -> None:
    ran = on_gpu.one(spec(lr=3e4, init={"optimizer": "sgd"}, precision="16-mixed"))
    assert ran.record.status == "diverged", ran.record.reason


@pytest.mark.parametrize("backend", ["nccl", "gloo"])
def test_one_rank_trains_under_ddp(on_gpu: Trials, tmp_path: Path, backend: str) -> None:
    strategy = {
        "class_path": "pytorch_lightning.strategies.DDPStrategy",
        "init_args": {"process_group_backend": backend},
    }
    init = {"place": str(tmp_path), "width": 64}
    task = make_task("gpu_modules.Told", "lrscale.zoo.Digits", init=init, trainer={"strategy": strategy})
    ran = on_gpu.one(make_spec(task, lr=3e-3, batch=BATCH, horizon=HORIZON, schedule="cosine", warmup=6, every=20))
    assert ran.record.status == "completed", ran.record.reason
    assert json.loads((tmp_path / "rank-0.json").read_text()) == {
        "device": "cuda:0",
        "world_size": 1,
        "backend": backend,
    }
    np.testing.assert_allclose(ran.train_losses, on_gpu.one(spec()).train_losses, rtol=1e-5)
