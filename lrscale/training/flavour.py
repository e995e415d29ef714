"""The two namespaces of Lightning, which do not mix."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, final

from lrscale.errors import TaskError

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


@final
@dataclass(frozen=True, slots=True)
class Flavour:
    """One of ``lightning.pytorch`` and ``pytorch_lightning``.

    Their classes are different classes: a Trainer of one refuses a module of the other. So Trainer, callbacks and CLI
    are taken from the package that the module's class derives from.
    """

    package: str

    @property
    def module(self) -> ModuleType:
        """The package itself."""
        return importlib.import_module(self.package)

    def get(self, path: str) -> Any:
        """Return a name of the package, such as ``"loggers.logger.DummyLogger"``."""
        value: Any = self.module
        for name in path.split("."):
            value = getattr(value, name, None) or importlib.import_module(f"{value.__name__}.{name}")
        return value


def flavour_of(kind: type) -> Flavour:
    """Return the flavour that a class derives from.

    Raises
    ------
    TaskError
        When it derives from neither.
    """
    for ancestor in kind.__mro__:
        for package in PACKAGES:
            if ancestor.__module__ == package or ancestor.__module__.startswith(f"{package}."):
                return Flavour(package)
    raise TaskError(
        f"{kind.__module__}.{kind.__qualname__} is not a LightningModule or LightningDataModule",
        hint="derive it from lightning.pytorch or pytorch_lightning",
    )
