"""What a published law is: what it says for a scale, how its authors count, and where it holds."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from lrscale.errors import LrscaleError
from lrscale.registry import Registry

NOT_STATED = (0.0, math.inf)
"""Range of what a paper does not bound, or where its bounds are not known here: no scale is called outside of it."""
# Attention and the rest aside: forward and backward of one weight for one token (Kaplan et al. 2020, arXiv:2001.08361).
_FLOPS_PER_PARAMETER = 6.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A model size and a length of training, in the units that published laws count in."""

    params: float
    """Model size, without embeddings where they can be told."""
    tokens: float
    """Tokens seen in the whole run."""
    loss: float | None = None
    """Final loss in nats per token, for laws that ask for it."""
    flops_per_token: float | None = None
    """Training FLOPs per token without embeddings. Default None: taken as 6 x params."""

    def __post_init__(self) -> None:
        for name in ("params", "tokens", "loss", "flops_per_token"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise LrscaleError(f"{name} must be a positive number, not {value}", hint="check the argument")

    @property
    def compute(self) -> float:
        """Training FLOPs without embeddings."""
        per_token = _FLOPS_PER_PARAMETER * self.params if self.flops_per_token is None else self.flops_per_token
        return per_token * self.tokens


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAnswer:
    """What a published law says for one scale: a comparison, and no measurement of this task."""

    law: str
    lr: float | None
    """Best peak LR; None where the law is silent."""
    batch_tokens: float | None
    """Best global batch, in tokens; None where the law is silent."""
    outside: tuple[str, ...]
    """Why the scale is outside of what the law was fitted on; empty inside."""
    silent: str
    """Why it does not give a number that it might; empty when it gives all it has."""


class AbstractPublishedLaw(ABC):
    """The best LR, the best batch size or both, as somebody published them.

    Every law here was fitted to language models, whose data are counted in tokens. For anything else it is a line to
    compare with. A law overrides what it speaks of, says where it is out of its range, and is silent where its authors
    are.
    """

    name: ClassVar[str]
    authors: ClassVar[str]
    arxiv: ClassVar[str]
    formula: ClassVar[str]
    """With N params, D tokens, C FLOPs, L loss."""
    counts: ClassVar[str]
    """What N and B count."""
    conventions: ClassVar[str]
    """Schedule, warm-up, optimizer; at a fixed batch, or along the best one."""
    params_range: ClassVar[tuple[float, float]]
    """Model sizes that it was fitted on."""
    tokens_range: ClassVar[tuple[float, float]]
    """Tokens that it was fitted on; `NOT_STATED` where the paper bounds something else, 0 for an end not known here."""

    def lr(self, scale: Scale) -> float | None:
        """Return the best peak LR. Default None: the law gives no value of its own."""
        del scale
        return None

    def batch_tokens(self, scale: Scale) -> float | None:
        """Return the best global batch in tokens. Default None: the law gives no value of its own."""
        del scale
        return None

    def lr_ratio(self, near: Scale, far: Scale) -> float | None:
        """Return the best LR at `far` over that at `near`: what the law says of a setting measured elsewhere."""
        return _ratio(self.lr(near), self.lr(far))

    def batch_ratio(self, near: Scale, far: Scale) -> float | None:
        """Return the best batch at `far` over that at `near`."""
        return _ratio(self.batch_tokens(near), self.batch_tokens(far))

    def silence(self, scale: Scale) -> str:
        """Return why a number is missing; empty when none is."""
        del scale
        return ""

    def outside(self, scale: Scale) -> tuple[str, ...]:
        """Return why a scale is outside of what the law was fitted on.

        Examples
        --------
        >>> from lrscale.laws.published import PUBLISHED_LAWS
        >>> PUBLISHED_LAWS["step_law"].outside(Scale(params=1e6, tokens=1e10))
        ('params 1e+06 below 2.1e+08',)
        """
        found = []
        for name, value, (low, high) in (
            ("params", scale.params, self.params_range),
            ("tokens", scale.tokens, self.tokens_range),
        ):
            if value < low:
                found.append(f"{name} {value:.3g} below {low:.3g}")
            elif value > high:
                found.append(f"{name} {value:.3g} above {high:.3g}")
        return tuple(found)

    def answer(
        self, scale: Scale, *, near: Scale | None = None, measured: Mapping[str, float] | None = None
    ) -> PublishedAnswer:
        """Return what the law says for a scale.

        Parameters
        ----------
        scale : Scale
            Where.
        near : Scale or None, optional
            Where a setting was measured. A law without a factor of its own starts from it. Default None.
        measured : mapping of str to float, optional
            ``lr`` and ``batch_tokens`` measured at `near`. Default None.
        """
        own = {"lr": self.lr(scale), "batch_tokens": self.batch_tokens(scale)}
        if near is not None:
            for name, ratio in (("lr", self.lr_ratio(near, scale)), ("batch_tokens", self.batch_ratio(near, scale))):
                if own[name] is None and ratio is not None and measured is not None and name in measured:
                    own[name] = measured[name] * ratio
        batch = own["batch_tokens"]
        if batch is not None and batch > scale.tokens:
            own["batch_tokens"] = None
            silent = f"its batch of {batch:.3g} tokens is longer than the whole run"
        elif own["lr"] is None or batch is None:
            silent = self.silence(scale)
        else:
            silent = ""
        return PublishedAnswer(
            law=self.name,
            lr=own["lr"],
            batch_tokens=own["batch_tokens"],
            outside=self.outside(scale),
            silent=silent,
        )


def _ratio(near: float | None, far: float | None) -> float | None:
    return None if near is None or far is None else far / near


PUBLISHED_LAWS: Registry[AbstractPublishedLaw] = Registry("published law")
"""Laws of the best LR and batch size against scale, by name."""
