"""DeepSeek LLM: LR and batch against compute."""

from __future__ import annotations

from typing import ClassVar, final

from typing_extensions import override

from lrscale.laws.published.base import NOT_STATED, AbstractPublishedLaw, Scale


@final
class DeepSeek(AbstractPublishedLaw):
    """``lr = 0.3118 C^-0.1250`` and ``B = 0.2920 C^0.3271`` tokens, C the training FLOPs without embeddings.

    The paper counts C as FLOPs per token with attention, times tokens. Without `Scale.flops_per_token` attention is
    left out: a share of context / (6 width), which at a third moves the LR by 4 %.

    References
    ----------
    .. [1] DeepSeek-AI. "DeepSeek LLM: Scaling Open-Source Language Models with Longtermism." arXiv:2401.02954 (2024).

    Examples
    --------
    >>> law, scale = DeepSeek(), Scale(params=1e9, tokens=1e11)
    >>> f"{law.lr(scale):.3g}, {law.batch_tokens(scale):.3g}"
    '0.000788, 1.83e+06'
    """

    name: ClassVar[str] = "deepseek"
    authors: ClassVar[str] = "DeepSeek-AI 2024"
    arxiv: ClassVar[str] = "2401.02954"
    formula: ClassVar[str] = "lr = 0.3118 C^-0.1250; B = 0.2920 C^0.3271"
    counts: ClassVar[str] = "C is FLOPs per token without embeddings x tokens; B in tokens"
    conventions: ClassVar[str] = "along the best batch; AdamW, warm-up of 2000 steps, LR in steps at 80 % and 90 %"
    params_range: ClassVar[tuple[float, float]] = NOT_STATED
    tokens_range: ClassVar[tuple[float, float]] = NOT_STATED
    compute_range: ClassVar[tuple[float, float]] = (1e17, 2e19)
    """FLOPs of the sweeps. The authors checked it at 1e20, and trained their 7B and 67B models, 8.5e22 and 9.9e23 by
    the count above, within 3 % of the LR and 10 % of the batch that it gives."""

    @override
    def lr(self, scale: Scale) -> float:
        return float(0.3118 * scale.compute**-0.1250)

    @override
    def batch_tokens(self, scale: Scale) -> float:
        return float(0.2920 * scale.compute**0.3271)

    @override
    def outside(self, scale: Scale) -> tuple[str, ...]:
        low, high = self.compute_range
        if scale.compute < low:
            return (f"{scale.compute:.3g} FLOPs below {low:.3g}",)
        return (f"{scale.compute:.3g} FLOPs above {high:.3g}",) if scale.compute > high else ()
