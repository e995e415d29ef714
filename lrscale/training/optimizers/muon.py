"""Muon for the matrices of hidden layers, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import nn
from typing_extensions import override

from lrscale.errors import TaskError


@final
class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers that look like one: every group is Muon's or AdamW's, and a step is a step of both.

    Muon's updates are scaled to the size of AdamW's, so that one LR serves both.

    Parameters
    ----------
    muon, adamw : sequence of dict
        Parameter groups of either; one of them may be empty.
    momentum, nesterov : optional
        Of Muon. Defaults to 0.95 and True.

    References
    ----------
    .. [1] Jordan et al. "Muon: an optimizer for hidden layers in neural networks." (2024).
    .. [2] Liu et al. "Muon is scalable for LLM training." arXiv:2502.16982 (2025), section 2.2: the scale.
    """

    def __init__(
        self,
        muon: Sequence[dict[str, Any]],
        adamw: Sequence[dict[str, Any]],
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
    ) -> None:
        kind = getattr(torch.optim, "Muon", None)
        if kind is None:
            raise TaskError(f"torch {torch.__version__} has no Muon", hint="upgrade to torch 2.9 or later")
        self._parts: list[torch.optim.Optimizer] = []
        if muon:
            self._parts.append(kind(list(muon), momentum=momentum, nesterov=nesterov, adjust_lr_fn="match_rms_adamw"))
        if adamw:
            self._parts.append(torch.optim.AdamW(list(adamw)))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._link()

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Take one step of both; a closure is called first, once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._link()

    def _link(self) -> None:
        # The parts work on this optimizer's groups and state, so that whoever changes or saves those reaches theirs.
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state


def hidden_matrices(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that Muon is made for: the matrices between the embedding and the output.

    Everything of other than two dimensions, the weights of embeddings (and of an output layer that shares them) and
    the last matrix, which is taken for the output layer, are left to AdamW, as the authors of Muon advise.

    Parameters
    ----------
    module : Module
        Its parameters in their order of registration.
    """
    embeddings = {
        id(weight)
        for part in module.modules()
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
        for weight in part.parameters(recurse=False)
    }
    tied = any(
        id(weight) in embeddings
        for part in module.modules()
        if not isinstance(part, (nn.Embedding, nn.EmbeddingBag))
        for weight in part.parameters(recurse=False)
    )
    matrices = [id(weight) for weight in module.parameters() if weight.ndim == 2 and id(weight) not in embeddings]
    return set(matrices if tied or len(matrices) < 2 else matrices[:-1])
