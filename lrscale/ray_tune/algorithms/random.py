"""Random settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, final

from typing_extensions import override

from lrscale.ray_tune.base import ALGORITHMS, AbstractAlgorithm


@final
@ALGORITHMS.register("random")
@dataclass(frozen=True, slots=True, kw_only=True)
class Random(AbstractAlgorithm):
    """Draw every setting by itself."""

    title: ClassVar[str] = "random settings"
    limits_itself: ClassVar[bool] = True

    @override
    def build(self, trials: int, seed: int) -> Any:
        return None
