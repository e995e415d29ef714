"""Schedulers and search algorithms of Ray Tune: a name, the packages that they need, and how to make one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, final

from lrscale.errors import LrscaleError, did_you_mean
from lrscale.ray_tune.space import Space
from lrscale.registry import Registry

TIME = "validation"
"""What a trial reports as its time: the number of the validation, from 1."""
LOSS = "loss"
"""What it reports as its loss."""
RAY_EXTRA = 'pip install "lrscale[ray]"'
SEARCH_EXTRA = 'pip install "lrscale[ray-search]"'


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A package that a member needs."""

    package: str
    tested: str
    """Version that was tested."""
    refused_from: tuple[int, ...] | None = None
    """First release that is known not to work."""

    def trouble(self) -> str | None:
        """Return what is wrong with what is installed, as a clause, or None."""
        try:
            version = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return f"{self.package} is not installed"
        if self.refused_from is not None and _release(version) >= self.refused_from:
            return f"{self.package} {version} does not work with Ray"
        return None

    def __str__(self) -> str:
        return f"{self.package}=={self.tested}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractMember(ABC):
    """One scheduler or algorithm; its fields are its settings."""

    title: ClassVar[str]
    """What it is called where people read."""
    pins: ClassVar[tuple[Pin, ...]] = ()
    """What it needs besides Ray itself."""

    @classmethod
    def require(cls) -> None:
        """Refuse to go on without what is needed.

        Raises
        ------
        LrscaleError
            Naming the package, and the version that works.
        """
        for pin in cls.pins:
            trouble = pin.trouble()
            if trouble is not None:
                needed = " ".join(map(str, cls.pins))
                raise LrscaleError(f"{cls.title}: {trouble}", hint=f"{SEARCH_EXTRA}, or: pip install {needed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractScheduler(AbstractMember):
    """Decides which trials go on."""

    algorithms: ClassVar[tuple[str, ...] | None] = None
    """The search algorithms that it goes with; None for every one but those that need another scheduler."""
    begins_again: ClassVar[bool] = False
    """Whether it pauses trials, which then train again from their beginning to where they were."""
    evolves: ClassVar[bool] = False
    """Whether trials take over each other's state and change their settings on the way."""
    multiplies: ClassVar[bool] = False
    """Whether it multiplies settings, so that it is given the LR itself and the batch sizes by their places."""

    @abstractmethod
    def build(self, space: Space, length: int) -> Any:
        """Return Ray's object.

        Parameters
        ----------
        space : Space
            Where is searched.
        length : int
            Validations over the horizon.
        """

    def concern(self, trials: int, length: int) -> str | None:
        """Return why so few trials make it do nothing, and how many it takes, as a sentence; None where they do not."""
        del trials, length
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstractAlgorithm(AbstractMember):
    """Says which settings to try."""

    limits_itself: ClassVar[bool] = False
    """Whether it must not be held to so many trials at once, because its scheduler waits for more than that."""

    @abstractmethod
    def build(self, trials: int, seed: int) -> Any:
        """Return Ray's searcher, which is told later where it searches; None for random settings.

        Parameters
        ----------
        trials : int
            How many it may try.
        seed : int
            Of what is random in it.
        """


M = TypeVar("M", bound=AbstractMember)

SCHEDULERS: Registry[type[AbstractScheduler]] = Registry("scheduler of Ray Tune")
ALGORITHMS: Registry[type[AbstractAlgorithm]] = Registry("search algorithm of Ray Tune")


def startup(trials: int) -> int:
    """Return how many random settings an algorithm begins with: a third of the trials, from 3 to 10.

    The libraries begin with 10 to 20, which would be all of a short search.
    """
    return min(max(trials // 3, 3), 10)


def make(family: Registry[type[M]], name: str, settings: Mapping[str, Any]) -> M:
    """Return a member with its settings.

    Raises
    ------
    LrscaleError
        For an unknown name or setting.
    """
    kind = family[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for key in settings:
        if key not in known:
            hint = did_you_mean(key, known) if known else "it has none"
            raise LrscaleError(f"{family.kind} {name} has no setting {key}", hint=hint)
    return kind(**settings)


def require_at_least(name: str, value: float, least: float) -> None:
    """Refuse a setting that is too small."""
    if not value >= least:
        raise LrscaleError(f"{name} must be at least {least:g}, not {value:g}")


def _release(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        digits = "".join(character for character in part if character.isdigit())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
