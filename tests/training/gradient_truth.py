"""Linear regression and a noisy quadratic whose gradient noise is known in closed form, and ranks to train them on."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

INPUTS = 10
NOISE = 1.0
SLOPE, OFFSET = 0.3, 0.4
"""How far every weight, and the bias, stand from the truth, which is 0."""

# Per example g = r (x, 1) with r = x . slope + offset - noise; fourth moments of Gaussian inputs give the traces.
_SLOPES = INPUTS * SLOPE**2
WEIGHT_SQUARE = _SLOPES
WEIGHT_TRACE = INPUTS * (_SLOPES + OFFSET**2 + NOISE**2) + _SLOPES
BIAS_SQUARE = OFFSET**2
BIAS_TRACE = _SLOPES + NOISE**2
SQUARE = WEIGHT_SQUARE + BIAS_SQUARE
TRACE = WEIGHT_TRACE + BIAS_TRACE


# The quadratic: g = curvature * place + sd * e for each example, with e standard normal in every direction.
DIRECTIONS = 24
PLACE = 0.5
CURVATURE = torch.linspace(0.2, 1.0, DIRECTIONS)
SD = torch.linspace(2.0, 0.5, DIRECTIONS)
QUADRATIC_SQUARE = float((CURVATURE * PLACE).square().sum())
QUADRATIC_TRACE = float(SD.square().sum())


def make_quadratic(flavour: str = "pytorch_lightning", checkpointed: bool = False) -> Any:
    """Return a module on a quadratic basin whose gradient carries the noise of its examples; its LR is 0.

    With `checkpointed` its loss is computed anew in a backward inside of the backward.
    """
    package = importlib.import_module(flavour)

    class Quadratic(package.LightningModule):  # type: ignore[misc, name-defined]  # the base is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self.place = torch.nn.Parameter(torch.full((DIRECTIONS,), PLACE))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            del batch_idx
            if not checkpointed:
                return self.loss(batch[0], torch.zeros(()))
            # Reentrant checkpointing begins its own backward only where an input requires a gradient.
            found = checkpoint(self.loss, batch[0], torch.zeros((), requires_grad=True), use_reentrant=True)
            assert isinstance(found, Tensor)
            return found

        def loss(self, noise: Tensor, nothing: Tensor) -> Tensor:
            return nothing + 0.5 * (CURVATURE * self.place.square()).sum() + (noise @ (SD * self.place)).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.place], lr=0.0)

    return Quadratic()


def measure_quadratic(
    flavour: str, steps: int, batch: int, accumulate: int, seed: int, checkpointed: bool = False
) -> dict[str, Any]:
    """Fit the quadratic with the instrument and return its result; `batch` counts the whole step."""
    import lrscale

    instrument = lrscale.GradientNoiseScale(budget=None, split_every=1)
    run = trainer(flavour, instrument, accumulate_grad_batches=accumulate)
    noise = torch.randn(steps * batch, DIRECTIONS, generator=torch.Generator().manual_seed(seed))
    data = DataLoader(TensorDataset(noise), batch_size=batch // accumulate // run.world_size)
    run.fit(make_quadratic(flavour, checkpointed), data)
    return instrument.result().to_dict()


def make(flavour: str = "pytorch_lightning", *, lr: float = 0.0, manual: bool = False, optimizer: str = "SGD") -> Any:
    """Return the module: at an LR of 0 it stays where the gradient is known."""
    package = importlib.import_module(flavour)

    class Regression(package.LightningModule):  # type: ignore[misc, name-defined]  # the base is chosen at run time
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((INPUTS,), SLOPE))
            self.bias = torch.nn.Parameter(torch.full((1,), OFFSET))
            self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
            self.calls = 0
            self.automatic_optimization = not manual

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.calls += 1
            x, y = batch
            loss = 0.5 * (x @ self.weight + self.bias - y).square().mean()
            self.log("train_loss", loss)
            if manual:
                own = self.optimizers()
                own.zero_grad()
                self.manual_backward(loss)
                own.step()
            return loss

        def configure_optimizers(self) -> Any:
            groups = [
                {"params": [self.weight, self.frozen], "name": "weights"},
                {"params": [self.bias], "name": "biases"},
            ]
            return getattr(torch.optim, optimizer)(groups, lr=lr)

    return Regression()


def examples(count: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, INPUTS, generator=generator)
    return TensorDataset(x, NOISE * torch.randn(count, generator=generator))


def trainer(flavour: str, callback: Any, **settings: Any) -> Any:
    """Return a quiet Trainer on this process's ranks."""
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    quiet = {
        "accelerator": "cpu",
        "devices": ranks,
        "strategy": "ddp" if ranks > 1 else "auto",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [] if callback is None else [callback],
    }
    return importlib.import_module(flavour).Trainer(**{**quiet, **settings})


def measure(flavour: str, steps: int, batch: int, accumulate: int, **settings: Any) -> dict[str, Any]:
    """Fit with the instrument and return its result and its sums; `batch` counts the whole step."""
    import lrscale

    own = {"budget": None, **settings.pop("instrument", {})}
    instrument = lrscale.GradientNoiseScale(**own)
    module = make(flavour, lr=settings.pop("lr", 0.0), optimizer=settings.pop("optimizer", "SGD"))
    run = trainer(flavour, instrument, accumulate_grad_batches=accumulate, **settings)
    size = batch // accumulate // run.world_size
    run.fit(module, DataLoader(examples(steps * batch), batch_size=size))
    return {"result": instrument.result().to_dict(), "sums": instrument.sums.to_dict() if instrument.sums else None}


def train(with_instrument: bool, accumulate: int, model: str, steps: int = 20) -> dict[str, Any]:
    """Train a model of the zoo with everything that is random in it, and return what it ends with."""
    import lrscale
    from lrscale.zoo import ByteGPT, DigitsMLP

    torch.manual_seed(1)
    module: Any
    if model == "gpt":
        module = ByteGPT(width=16, depth=1, context=8, dropout=0.1)
        data = torch.randint(0, 256, (1024, 9))
    else:
        module = DigitsMLP(width=16, dropout=0.2)
        data = TensorDataset(torch.randn(1024, 64), torch.randint(0, 10, (1024,)))
    callback = (
        lrscale.GradientNoiseScale(split_every=3, preconditioned_every=2, budget=None) if with_instrument else None
    )
    settings = {"accumulate_grad_batches": accumulate, "gradient_clip_val": 0.5, "max_epochs": 2, "max_steps": steps}
    run = trainer("pytorch_lightning", callback, **settings)
    size = 1024 // steps // accumulate // run.world_size
    run.fit(module, DataLoader(data, batch_size=size, shuffle=True))
    if callback is not None:
        assert callback.sums is not None
        assert len(callback.sums) >= (steps if run.world_size * accumulate > 1 else 6)
    found = {**module.state_dict(), "random": torch.get_rng_state(), "steps": torch.tensor(run.global_step)}
    return {name: value.numpy() for name, value in found.items()}


def run_ranks(ranks: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call a function of this module on fresh processes that form a gloo group, and return what each returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytorch_lightning", "lightning.pytorch", "lrscale.callbacks_noise_scale"])
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(ranks):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_rank, args=(theirs, rank, ranks, str(Path(folder, "rendezvous")), function, arguments)
            )
            process.start()
            theirs.close()
            started.append((process, mine))
        found = []
        for process, mine in started:
            try:
                found.append(mine.recv() if mine.poll(120) else "no answer")
            except EOFError:
                found.append("ended without an answer")
            process.join(10)
            if process.is_alive():
                process.kill()
    for one in found:
        assert not isinstance(one, str), one
    return [value for (value,) in found]


def _rank(answer: Any, rank: int, ranks: int, rendezvous: str, function: Callable[..., Any], arguments: Any) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "LOCAL_WORLD_SIZE": str(ranks)})
    os.environ.update({"TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"})
    try:
        if ranks > 1:
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=ranks, timeout=timedelta(minutes=2)
            )
        answer.send((function(*arguments),))
    except BaseException:
        answer.send(traceback.format_exc())
    finally:
        if ranks > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
