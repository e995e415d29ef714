"""Bjorck et al.: LR against model size and tokens at a fixed batch."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.published.base import AbstractPublishedLaw, Scale


@final
class Bjorck(AbstractPublishedLaw):
    """``lr ~ N^-0.23 D^-0.32`` at a fixed batch of half a million tokens.

    Exponents only: the law carries a measured LR to another scale. They are of one fit to models of 760M to 2.7B; of D
    alone the exponent is 0.32 at 760M and 1.3B, and larger elsewhere (0.42 at 2.7B, 0.38 at 350M, 0.65 at 125M, 0.70 at
    50M). The longest horizon is 800B tokens; the shortest is not known here and left open.

    References
    ----------
    .. [1] Bjorck, Benhaim, Chaudhary, Wei, Song. "Scaling Optimal LR Across Token Horizons." arXiv:2409.19913 (2024).

    Examples
    --------
    >>> near, far = Scale(params=1e9, tokens=1e10), Scale(params=1e9, tokens=1e11)
    >>> round(Bjorck().lr_ratio(near, far), 3)
    0.479
    """

    name: ClassVar[str] = "bjorck"
    authors: ClassVar[str] = "Bjorck et al. 2024"
    arxiv: ClassVar[str] = "2409.19913"
    formula: ClassVar[str] = "lr ~ N^-0.23 D^-0.32 at a fixed batch"
    counts: ClassVar[str] = "N as the models are named; batch of 0.5M tokens"
    conventions: ClassVar[str] = "at a fixed batch; cosine"
    params_range: ClassVar[tuple[float, float]] = (7.6e8, 2.7e9)
    tokens_range: ClassVar[tuple[float, float]] = (0.0, 8e11)

    @override
    def lr_ratio(self, near: Scale, far: Scale) -> float:
        return float((far.params / near.params) ** -0.23 * (far.tokens / near.tokens) ** -0.32)

    @override
    def silence(self, scale: Scale) -> str:
        return "it holds the batch fixed, and carries an LR from a measured scale"
