"""Step Law: LR against model size and tokens, along the best batch."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.published.base import AbstractPublishedLaw, Scale


@final
class StepLaw(AbstractPublishedLaw):
    """``lr = 1.79 N^-0.713 D^0.307`` and ``B = 0.58 D^0.571`` tokens.

    The exponent of D is that of the best LR along the best batch. At a fixed batch of 32 sequences the best LR of the
    same grid falls as D^-0.29. The range is that of the dense runs that the authors published.

    References
    ----------
    .. [1] Li, Zheng et al. "Predictable Scale: Part I, Step Law." arXiv:2503.04715 (2025).

    Examples
    --------
    >>> law, scale = StepLaw(), Scale(params=1e9, tokens=1e11)
    >>> f"{law.lr(scale):.3g}, {law.batch_tokens(scale):.3g}"
    '0.00163, 1.11e+06'
    """

    name: ClassVar[str] = "step_law"
    authors: ClassVar[str] = "Li et al. 2025 (Step Law)"
    arxiv: ClassVar[str] = "2503.04715"
    formula: ClassVar[str] = "lr = 1.79 N^-0.713 D^0.307; B = 0.58 D^0.571"
    counts: ClassVar[str] = "N without embeddings; B in tokens"
    conventions: ClassVar[str] = "along the best batch; AdamW, cosine to the absolute LR 1e-5"
    params_range: ClassVar[tuple[float, float]] = (2.1e8, 1.1e9)
    tokens_range: ClassVar[tuple[float, float]] = (4e9, 1e11)

    @override
    def lr(self, scale: Scale) -> float:
        return float(1.79 * scale.params**-0.713 * scale.tokens**0.307)

    @override
    def batch_tokens(self, scale: Scale) -> float:
        return float(0.58 * scale.tokens**0.571)
