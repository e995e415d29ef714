"""Modules whose every part could be left changed, and how to tell whether it was."""

from __future__ import annotations

import random
from typing import Any

import lightning.pytorch
import numpy as np
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

EXAMPLES = 96
FEATURES = 4


class Meter:
    """A helper of the kind that modules keep: plain Python with tensors in it."""

    def __init__(self, module: nn.Module) -> None:
        self.shadow = {name: value.detach().clone() for name, value in module.named_parameters()}
        self.count = 0

    def update(self, module: nn.Module) -> None:
        self.count += 1
        for name, value in module.named_parameters():
            if name in self.shadow:
                self.shadow[name].lerp_(value.detach(), 0.1)


class Rows(Dataset[Any]):
    """Examples that count how often they are asked for."""

    def __init__(self, size: int = EXAMPLES, shift: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(3)
        self.inputs = torch.randn(size, FEATURES, generator=generator)
        self.targets = self.inputs.sum(1) + 0.1 * torch.randn(size, generator=generator) + shift
        self.asked = 0
        self.generator = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.asked += 1
        self.generator.random()
        return self.inputs[index], self.targets[index]


def loader(batch_size: int = 8, **settings: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(11)
    return DataLoader(Rows(**settings), batch_size=batch_size, shuffle=True, generator=generator)


def make_module(package: Any) -> Any:
    class Everything(package.LightningModule):  # type: ignore[misc, name-defined]
        """Batch norm, dropout, buffers that are saved and that are not, helpers, lists, generators, hooks."""

        def __init__(self, lr: float = 0.02, ratio: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.lr, self.ratio = lr, ratio
            self.body = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Tanh())
            self.head = nn.Linear(8, 1)
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer("moving", torch.zeros(3), persistent=False)
            self.seen: list[float] = []
            self.nested = {"a": [1, 2], "b": {"c": torch.ones(2)}}
            self.rng = np.random.default_rng(0)
            self.generator = torch.Generator().manual_seed(1)
            self.meter = Meter(self)
            self.latest: Tensor | None = None
            self.body[0].register_forward_hook(lambda *_: None)

        def setup(self, stage: str) -> None:
            self.made_in_setup = nn.Linear(2, 2)
            self.offset = nn.Parameter(torch.randn(()))
            self.stage = stage

        def forward(self, inputs: Tensor) -> Tensor:
            return self.head(self.body(inputs))[:, 0] + self.offset  # type: ignore[no-any-return]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = nn.functional.mse_loss(self(batch[0]).float(), batch[1])
            self.steps += 1
            self.moving.lerp_(torch.rand(3) + random.random() + float(np.random.rand()), 0.5)
            self.seen.append(float(self.rng.random()))
            self.nested["a"].append(batch_idx)  # type: ignore[union-attr]
            self.nested["b"]["c"] += 1  # type: ignore[index, call-overload]
            torch.rand(1, generator=self.generator)
            self.meter.update(self)
            self.latest = loss.detach()
            self.hparams["lr"] = 7.0
            self.log("train_loss", loss, prog_bar=True)
            self.log("accuracy", 1 / (1 + loss.detach()))
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", nn.functional.mse_loss(self(batch[0]).float(), batch[1]))

        def configure_optimizers(self) -> Any:
            groups = [
                {"params": list(self.body.parameters()), "lr": self.lr * self.ratio},
                {"params": [*self.head.parameters(), self.offset]},
            ]
            optimizer = torch.optim.AdamW(groups, lr=self.lr)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 50)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    return Everything


EverythingL = make_module(lightning.pytorch)
EverythingP = make_module(pytorch_lightning)


def fingerprint(*values: Any) -> dict[str, Any]:
    """Everything that can be told of some objects: names, identities, contents to the bit, random states."""
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "grad mode": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }
    for place, value in enumerate(values):
        _describe(value, str(place), found, set())
    return found


def _describe(value: Any, path: str, found: dict[str, Any], seen: set[int]) -> None:
    found[f"{path} type"] = type(value)
    if isinstance(value, Tensor):
        bits = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        gradient = None if value.grad is None else (id(value.grad), value.grad.numpy().tobytes())
        hooks = None if not value.is_leaf else dict(value._backward_hooks or {})
        found[path] = (id(value), value.data_ptr(), bits, value.requires_grad, gradient, hooks, value.dtype)
        return
    if isinstance(value, (torch.Generator, np.random.Generator)):
        state = value.get_state().numpy().tobytes() if isinstance(value, torch.Generator) else value.bit_generator.state
        found[path] = (id(value), str(state))
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif hasattr(value, "__dict__") and not callable(value) | isinstance(value, type):
        items = [item for item in value.__dict__.items() if item[0] not in ("_trainer", "trainer", "_fabric")]
        found[f"{path} run"] = {name: id(value.__dict__.get(name)) for name in ("_trainer", "trainer", "_fabric")}
    elif isinstance(value, nn.Module):
        items = [item for item in value.__dict__.items() if item[0] not in ("_trainer", "trainer", "_fabric")]
        found[f"{path} run"] = {name: id(value.__dict__.get(name)) for name in ("_trainer", "trainer", "_fabric")}
    else:
        found[path] = value
    found[f"{path} keys"] = [str(name) for name, _ in items]
    for name, item in items:
        _describe(item, f"{path}.{name}", found, seen)


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Where two fingerprints differ."""
    return [name for name in {**before, **after} if before.get(name, "absent") != after.get(name, "absent")]
