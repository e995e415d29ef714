"""MiniCPM: batch against the loss, and one LR for all sizes under muP."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.published.base import NOT_STATED, AbstractPublishedLaw, Scale


@final
class MiniCPM(AbstractPublishedLaw):
    """``B = 1.21e9 / L^6.24`` tokens; LR 0.01 for every size, in a module parametrized by muP.

    The batch is the one that reaches a loss on C4 with the fewest tokens, of models of 9M, 30M and 170M parameters
    trained with a cosine at LR 0.01; it is taken at the final loss. The LR was swept from 40M to 500M parameters and
    checked at 2.1B.

    References
    ----------
    .. [1] Hu et al. "MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies."
       arXiv:2404.06395 (2024).

    Examples
    --------
    >>> law = MiniCPM()
    >>> f"{law.batch_tokens(Scale(params=1e8, tokens=1e10, loss=3.0)):.3g}"
    '1.28e+06'
    >>> law.batch_tokens(Scale(params=1e8, tokens=1e10)) is None
    True
    """

    name: ClassVar[str] = "minicpm"
    authors: ClassVar[str] = "Hu et al. 2024 (MiniCPM)"
    arxiv: ClassVar[str] = "2404.06395"
    formula: ClassVar[str] = "lr = 0.01 under muP; B = 1.21e9 / L^6.24"
    counts: ClassVar[str] = "N without embeddings; L on C4 in nats per token; B in tokens"
    conventions: ClassVar[str] = "muP; batch at LR 0.01 with a cosine, for the fewest tokens to a loss"
    params_range: ClassVar[tuple[float, float]] = (9e6, 1.7e8)
    """Of the batch."""
    tokens_range: ClassVar[tuple[float, float]] = NOT_STATED

    @override
    def lr(self, scale: Scale) -> float:
        return 0.01

    @override
    def batch_tokens(self, scale: Scale) -> float | None:
        return None if scale.loss is None else float(1.21e9 / scale.loss**6.24)

    @override
    def outside(self, scale: Scale) -> tuple[str, ...]:
        return (*super().outside(scale), "the LR holds in a module parametrized by muP")

    @override
    def silence(self, scale: Scale) -> str:
        return "its batch follows the final loss, which is not known" if scale.loss is None else ""
