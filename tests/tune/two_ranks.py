"""What each of two ranks does in `test_two_ranks`: started by torchrun with a folder, it writes what it found there."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tune_modules import EverythingL, differences, fingerprint, loader

from lrscale.tune import range_test

SIZE, BATCH = 64, 8


class Lines(pl.LightningModule):
    """Writes down its own loss of each forward."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.weight = nn.Parameter(torch.zeros(3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = ((batch[0] @ self.weight - batch[1]) ** 2).mean()
        OWN.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


OWN: list[float] = []
"""Not an attribute of the module, which would be put back."""


def points() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SIZE, 3, generator=generator)
    return TensorDataset(inputs, inputs @ torch.tensor([3.0, -1.0, 2.0]) + torch.randn(SIZE, generator=generator))


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    module = Lines()
    result = range_test(module, DataLoader(points(), BATCH, shuffle=True), seeds=1, steps=40, confirm=False)
    found["own"], found["curve"] = OWN[:40], list(result.families[0].curves[0].loss)
    found["batch_size"] = result.families[0].batch_size

    confirmed = range_test(
        Lines(),
        DataLoader(points(), BATCH, shuffle=True),
        seeds=1,
        steps=60,
        lr_min=1e-4,
        lr_max=3.0,
        batch_sizes=[32, 64],
        confirm_steps=20,
    )
    found["confirmed"] = confirmed.to_dict()

    # In the middle of a fit under DDP, with batch norm and all the rest.
    class Finder(pl.Callback):
        points: list[int] = []  # noqa: RUF012 -- of one test

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            before = fingerprint(pl_module)
            again = range_test(pl_module, trainer=trainer, seeds=1, steps=20, confirm=False)
            found.setdefault("differences", []).extend(differences(before, fingerprint(pl_module)))
            self.points.append(len(again.families[0].curves[0].lr))

    def train(callbacks: list[Any]) -> Any:
        pl.seed_everything(1, verbose=False)
        module = EverythingL()
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp_find_unused_parameters_true",
            max_epochs=2,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            accumulate_grad_batches=2,
            default_root_dir=folder,
        )
        trainer.fit(module, loader())
        return [value.tolist() for value in module.state_dict().values()]

    finder = Finder()
    found["alone"], found["with"] = train([]), train([finder])
    found["points"] = finder.points
    rank = torch.distributed.get_rank()
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
