"""Which learning rate, batch size, schedule and layout to train with, how sure that is, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lrscale.callbacks import ApplyRecommendation as ApplyRecommendation
    from lrscale.callbacks_noise_scale import GradientNoiseScale as GradientNoiseScale
    from lrscale.recipe import Recipe as Recipe
    from lrscale.recipe import load_recipe as load_recipe
    from lrscale.recommend import Recommendation as Recommendation
    from lrscale.store import StudyFolder as StudyFolder
    from lrscale.store import StudyView as StudyView

_LAZY = {
    "ApplyRecommendation": "lrscale.callbacks",
    "GradientNoiseScale": "lrscale.callbacks_noise_scale",
    "Recipe": "lrscale.recipe",
    "load_recipe": "lrscale.recipe",
    "Recommendation": "lrscale.recommend",
    "StudyFolder": "lrscale.store",
    "StudyView": "lrscale.store",
}
_PARTS = frozenset({"tune"})
"""Packages that are reached as attributes: ``import lrscale`` is all that a notebook needs."""


def __getattr__(name: str) -> Any:
    # Lazy, so that `import lrscale` costs nothing and never loads torch, which ApplyRecommendation needs.
    from importlib import import_module

    if name in _PARTS:
        return import_module(f"lrscale.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'lrscale' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_PARTS})
