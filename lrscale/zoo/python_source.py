"""Bytes of the Python standard library's own source: real text that every machine with Python has."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lrscale.errors import LrscaleError
from lrscale.zoo.batched import batch_loader

_SKIPPED_FOLDERS = frozenset(
    {
        # Not the standard library.
        "site-packages",
        "dist-packages",
        "__pycache__",
        # Not installed everywhere, and mostly repetition.
        "test",
        "tests",
        "idle_test",
        # Generated tables, not source that a person wrote.
        "encodings",
        "pydoc_data",
    }
)

_SKIPPED_PREFIXES = ("config-", "_sysconfigdata")
"""Folders and files with the build settings of one machine."""

_VALIDATION_SHARE = 16
"""One file in so many validates."""


def _source_files(root: Path) -> Iterator[tuple[bytes, Path]]:
    """Yield (hash of the relative name, path) of each source file."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [
            name for name in subfolders if name not in _SKIPPED_FOLDERS and not name.startswith(_SKIPPED_PREFIXES)
        ]
        for name in names:
            if name.endswith(".py") and not name.startswith(_SKIPPED_PREFIXES):
                path = Path(folder, name)
                yield hashlib.sha256(path.relative_to(root).as_posix().encode()).digest(), path


def read_source(root: Path, max_bytes: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the training and the validation text under a folder.

    Files are split and ordered by the hash of their relative name: neither depends on the machine, and the first bytes
    are a fair sample of all of them.

    Parameters
    ----------
    root : Path
        A folder with Python source, searched recursively.
    max_bytes : int or None
        Stop when both texts together reach this size; None reads everything.

    Returns
    -------
    tuple of 1D arrays of uint8
        Training text and validation text.
    """
    train: list[bytes] = []
    validation: list[bytes] = []
    room = max_bytes
    for name_hash, path in sorted(_source_files(root)):
        if room is not None and room <= 0:
            break
        text = path.read_bytes()
        if room is not None:
            text = text[:room]
            room -= len(text)
        # The last byte, because the first ones order the files: any prefix of the order holds both splits.
        (validation if name_hash[-1] % _VALIDATION_SHARE == 0 else train).append(text)
    return np.frombuffer(b"".join(train), np.uint8), np.frombuffer(b"".join(validation), np.uint8)


@final
class Windows(Dataset[Tensor]):
    """Windows of ``context + 1`` bytes, so that each of `context` positions has a next byte to predict.

    Parameters
    ----------
    text : 1D array of uint8
    context : int
        Bytes that a window predicts, at least 1.
    starts : 1D array of int64
        Where the windows start; each at most ``len(text) - context - 1``.

    Examples
    --------
    >>> windows = Windows(np.arange(9, dtype=np.uint8), context=3, starts=np.array([0, 3]))
    >>> windows.__getitems__([1, 0])
    tensor([[3, 4, 5, 6],
            [0, 1, 2, 3]], dtype=torch.uint8)
    """

    def __init__(self, text: NDArray[np.uint8], context: int, starts: NDArray[np.int64]) -> None:
        self.text = text
        self.starts = starts
        self._offsets = np.arange(context + 1)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.text[self.starts[index] + self._offsets])

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Return the windows as one batch, uint8 of shape ``(len(indices), context + 1)``."""
        return torch.from_numpy(self.text[self.starts[np.asarray(indices)][:, None] + self._offsets])


@final
class PythonSource(pl.LightningDataModule):
    """Windows of bytes from the standard library's source files, split by file into training and validation.

    Tests, generated tables and installed packages are left out. The text depends on the Python release: `sha256` names
    it.

    Parameters
    ----------
    context : int, optional
        Bytes that an example predicts, at least 1. Defaults to 64.
    batch_size : int, optional
        Examples of one forward on one device, at least 1. Defaults to 16.
    max_bytes : int or None, optional
        Size of the text that is read, both splits together; None reads all of it (about 9 MB). Defaults to 4 MB.
    stride : int or None, optional
        Bytes between the starts of neighbouring training windows, at least 1. None stands for `context`: every byte is
        predicted once an epoch. A smaller stride gives more examples, which overlap. Defaults to None.
    validation_windows : int, optional
        Windows that validate, evenly spread over the validation text, at least 1. Defaults to 256.
    num_workers : int, optional
        Loader processes. The text is in memory, so 0 is fastest. Defaults to 0.
    root : str or None, optional
        Another folder with Python source. None stands for the running Python's standard library. Defaults to None.

    Examples
    --------
    >>> data = PythonSource(context=32, batch_size=4, max_bytes=100_000)
    >>> data.setup("fit")
    >>> next(iter(data.train_dataloader())).shape
    torch.Size([4, 33])
    """

    def __init__(
        self,
        context: int = 64,
        batch_size: int = 16,
        max_bytes: int | None = 4_000_000,
        stride: int | None = None,
        validation_windows: int = 256,
        num_workers: int = 0,
        root: str | None = None,
    ) -> None:
        super().__init__()
        if context < 1 or (stride is not None and stride < 1) or validation_windows < 1:
            raise LrscaleError(
                f"PythonSource has context {context}, stride {stride} and {validation_windows} validation windows",
                hint="each is at least 1",
            )
        self.context = context
        self.batch_size = batch_size
        self.max_bytes = max_bytes
        self.stride = stride if stride is not None else context
        self.validation_windows = validation_windows
        self.num_workers = num_workers
        self.root = Path(root if root is not None else sysconfig.get_paths()["stdlib"])
        self.train: Windows
        self.validation: Windows

    def setup(self, stage: str) -> None:
        """Read the text and lay the windows. `stage` makes no difference."""
        del stage
        if hasattr(self, "train"):
            return
        train, validation = read_source(self.root, self.max_bytes)
        last = {"training": len(train) - self.context - 1, "validation": len(validation) - self.context - 1}
        for split, start in last.items():
            if start < 0:
                raise LrscaleError(
                    f"the {split} text under {self.root} is shorter than context {self.context} + 1",
                    hint="raise max_bytes, or lower context",
                )
        count = min(self.validation_windows, last["validation"] // self.context + 1)
        spread = np.linspace(0, last["validation"], count).astype(np.int64)
        self.train = Windows(train, self.context, np.arange(0, last["training"] + 1, self.stride))
        self.validation = Windows(validation, self.context, spread)

    @property
    def sha256(self) -> str:
        """Hash of the training and the validation text, for the record. Reads the text when it was not read yet."""
        self.setup("fit")
        digest = hashlib.sha256(self.train.text.tobytes())
        digest.update(self.validation.text.tobytes())
        return digest.hexdigest()

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training windows, shuffled."""
        return batch_loader(self.train, batch_size=self.batch_size, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation windows, the same batches whatever the training batch is."""
        return batch_loader(self.validation, batch_size=min(64, len(self.validation)))
