"""The data of a live module: the loaders of each run, from data that are set up once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, final

from lrscale.errors import LrscaleError
from lrscale.training.built import BuiltTask
from lrscale.training.data_control import DataControl
from lrscale.training.flavour import Flavour
from lrscale.training.methods import replace_method
from lrscale.units import Layout, split_global_batch

_REPLACED = ("prepare_data", "setup", "teardown")
_OURS = frozenset({*_REPLACED, "train_dataloader", "val_dataloader", "trainer"})
"""Attributes of a data module that a run sets."""


@final
class LiveData:
    """Hands every run the same data, in an order of its own.

    Parameters
    ----------
    module : LightningModule
        Holds the data where `data` is None.
    data : LightningDataModule, loaders, or None
        As ``Trainer.fit`` takes them.
    val_data : loaders or None
        Beside loaders in `data`.
    flavour : Flavour
        Package of the module.

    Attributes
    ----------
    batch_size : int or None
        Examples of a batch of the training loader as its author made it; None before `discover`, or where the loader
        does not say.
    """

    def __init__(self, module: Any, data: Any, val_data: Any, flavour: Flavour) -> None:
        self._module = module
        self._flavour = flavour
        self.datamodule = data if _is_datamodule(data, flavour) else None
        self._loaders = None if self.datamodule is not None else data
        self._val_loaders = val_data
        self._in_a_fit = _is_in_a_fit(module)
        of_that_fit = self.datamodule is not None and self.datamodule.trainer is getattr(module, "_trainer", None)
        self._set_up = self._was_set_up = self._in_a_fit and of_that_fit
        self._bindings: dict[str, Any] = {}
        self.batch_size: int | None = None
        if self.datamodule is not None and val_data is not None:
            raise LrscaleError("val_data beside a data module", hint="the data module brings its own validation data")
        if self.datamodule is not None:
            self._bindings = dict(self.datamodule.__dict__)

    @property
    def loaders(self) -> tuple[Any, ...]:
        """The loaders that were passed."""
        return (self._loaders, self._val_loaders)

    def discover(self, fit: Callable[[BuiltTask], None]) -> None:
        """Set the data up and find out how large the batches are that they come in.

        Parameters
        ----------
        fit : callable
            Fits a task. It is ended when it asks for the training loader, before any step.
        """
        if self._loaders is not None:
            self.batch_size = own_batch_size(self._loaders)
            return
        owner = self._module if self.datamodule is None else self.datamodule
        with self._hooked():
            original = owner.train_dataloader

            def train_dataloader() -> Any:
                self.batch_size = own_batch_size(original())
                raise _Discovered

            replace_method(owner, "train_dataloader", train_dataloader)
            with contextlib.suppress(_Discovered):
                fit(self._task())

    @contextlib.contextmanager
    def built(self, layout: Layout, rank: int, seed: int) -> Iterator[tuple[BuiltTask, DataControl]]:
        """Yield the task with loaders that follow a layout and a seed, and take the loaders out again."""
        built = self._task()
        with self._hooked():
            data = DataControl(built, layout, rank, seed)
            data.install()
            yield built, data

    def layout(self, global_batch_size: int | None, devices: int, num_nodes: int, accumulate: int) -> Layout:
        """Return how a global batch is formed: of the loader's own batches where None is asked for.

        Raises
        ------
        LayoutError
            When a size does not divide among the ranks.
        """
        own = self.batch_size or 1
        if global_batch_size is None or global_batch_size == own * accumulate * devices * num_nodes:
            return Layout(per_device_batch_size=own, accumulate=accumulate, devices=devices, num_nodes=num_nodes)
        # The loader's own size is known to fit into memory.
        return split_global_batch(
            global_batch_size, devices=devices, num_nodes=num_nodes, max_per_device_batch_size=self.batch_size
        )

    def close(self) -> None:
        """Tear down what was set up here."""
        if self.datamodule is not None and self._set_up and not self._was_set_up:
            self.datamodule.teardown("fit")

    def _task(self) -> BuiltTask:
        return BuiltTask(
            module=self._module,
            datamodule=self.datamodule,
            train_loader=self._loaders,
            val_loader=self._val_loaders,
            flavour=self._flavour,
            trainer_class=self._flavour.get("Trainer"),
            # Whatever forms the batches: their size was read from it.
            batch_size_home="the loader",
            own_batch_size=self.batch_size,
        )

    @contextlib.contextmanager
    def _hooked(self) -> Iterator[None]:
        """Have data be set up once; afterwards the data module is as it is after that. A module is kept whole."""
        # A module in a fit is set up; layers that it made there are not to be made anew.
        done = [self._module] if self._in_a_fit else []
        if self.datamodule is not None and self._set_up:
            done.append(self.datamodule)
        for owner in done:
            for name in _REPLACED:
                replace_method(owner, name, _do_nothing)
        if self.datamodule is not None and not self._set_up:
            original = self.datamodule.setup

            def setup(stage: str) -> None:
                original(stage)
                self._set_up = True
                self._note_bindings()

            replace_method(self.datamodule, "setup", setup)
            replace_method(self.datamodule, "teardown", _do_nothing)
        try:
            yield
        finally:
            if self.datamodule is not None:
                self.datamodule.__dict__.clear()
                self.datamodule.__dict__.update(self._bindings)

    def _note_bindings(self) -> None:
        assert self.datamodule is not None
        now = {name: value for name, value in self.datamodule.__dict__.items() if name not in _OURS}
        self._bindings = {**now, **{name: value for name, value in self._bindings.items() if name in _OURS}}


class _Discovered(Exception):
    """Ends the fit that was begun to see the training loader."""


def own_batch_size(loaders: Any) -> int | None:
    """Return the examples of a batch of the first loader that says so, or None.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> own_batch_size({"a": DataLoader(range(4), batch_size=2)})
    2
    """
    if hasattr(loaders, "flattened"):
        loaders = list(loaders.flattened)
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, (list, tuple)):
        sizes = [own_batch_size(loader) for loader in loaders]
        return next((size for size in sizes if size is not None), None)
    size = getattr(loaders, "batch_size", None)
    if size is None:
        size = getattr(getattr(loaders, "batch_sampler", None) or getattr(loaders, "sampler", None), "batch_size", None)
    return size if isinstance(size, int) else None


def _is_in_a_fit(module: Any) -> bool:
    state = getattr(getattr(module, "_trainer", None), "state", None)
    return state is not None and str(state.fn) == "fit" and str(state.status) == "running"


def _is_datamodule(data: Any, flavour: Flavour) -> bool:
    if isinstance(data, flavour.get("LightningDataModule")):
        return True
    if hasattr(data, "train_dataloader") and hasattr(data, "prepare_data"):
        raise LrscaleError(
            f"{type(data).__name__} is no LightningDataModule of {flavour.package}, which the module comes from",
            hint="derive module and data from one package",
        )
    return False


def _do_nothing(*arguments: Any, **settings: Any) -> None:
    del arguments, settings
