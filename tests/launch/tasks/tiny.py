"""The smallest module and data that train under DDP, and the ways in which a module can go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Tiny(pl.LightningModule):
    """A linear fit. At step 2, `rank` does `act`; with `once`, only if that file is not there yet."""

    def __init__(self, act: str = "fit", rank: int = 1, once: str | None = None, place: str | None = None) -> None:
        super().__init__()
        self.act, self.rank, self.once, self.place = act, rank, once, place
        self.net = torch.nn.Linear(4, 1)
        self.lr = 0.1
        if act == "refuse":
            raise ValueError("width must be positive")

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        x, y = batch
        if index == 2 and self.global_rank == self.rank and self._is_time():
            getattr(self, f"_{self.act}")()
        return torch.nn.functional.mse_loss(self.net(x), y)

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def _is_time(self) -> bool:
        if self.once is None:
            return True
        try:
            Path(self.once).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _fit(self) -> None: ...

    def _fail(self) -> None:
        raise RuntimeError("the wrong shape of things")

    def _leave(self) -> None:
        print("leaving now")
        os._exit(3)

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _hang(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)

    def _exhaust(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def _devour(self) -> None:
        held = [bytearray(1 << 27) for _ in range(100)]
        print(len(held))

    def _fill_disk(self) -> None:
        raise OSError(28, "No space left on device")

    def _linger(self) -> None:
        assert self.place is not None
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(self.place, f"{os.getpid()}.pid").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)


class Points(pl.LightningDataModule):
    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(128, 4, generator=generator)
        self.points = TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self) -> DataLoader[list[torch.Tensor]]:
        return DataLoader(self.points, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[list[torch.Tensor]]:
        return DataLoader(self.points, batch_size=self.batch_size)
