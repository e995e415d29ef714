"""Power Lines: batch against tokens."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.published.base import NOT_STATED, AbstractPublishedLaw, Scale


@final
class PowerLines(AbstractPublishedLaw):
    """``B ~ D^0.383``, whatever the model size.

    The exponent only: the law carries a measured batch to another number of tokens. It leaves the LR to muP, and moves
    the weight decay instead. Models had 20 to 1280 tokens per parameter; which of them the batch was swept on is not
    known here, and no range of tokens is held.

    References
    ----------
    .. [1] Bergsma, Dey, Gosal, Gray, Soboleva, Hestness. "Power Lines: Scaling Laws for Weight Decay and Batch Size in
       LLM Pre-training." arXiv:2505.13738 (2025).

    Examples
    --------
    >>> near, far = Scale(params=1e9, tokens=1e10), Scale(params=1e9, tokens=1e11)
    >>> round(PowerLines().batch_ratio(near, far), 2)
    2.42
    """

    name: ClassVar[str] = "power_lines"
    authors: ClassVar[str] = "Bergsma et al. 2025 (Power Lines)"
    arxiv: ClassVar[str] = "2505.13738"
    formula: ClassVar[str] = "B ~ D^0.383"
    counts: ClassVar[str] = "any N; B and D in the same unit"
    conventions: ClassVar[str] = "muP; AdamW, weight decay by tokens per parameter"
    params_range: ClassVar[tuple[float, float]] = (1.1e8, 3.3e9)
    tokens_range: ClassVar[tuple[float, float]] = NOT_STATED

    @override
    def batch_ratio(self, near: Scale, far: Scale) -> float:
        return float((far.tokens / near.tokens) ** 0.383)

    @override
    def silence(self, scale: Scale) -> str:
        return "it says nothing of the LR, and carries a batch from a measured scale"
