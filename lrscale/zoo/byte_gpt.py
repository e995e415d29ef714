"""A small GPT on bytes, which grows by its arguments to the size of a GPU."""

from __future__ import annotations

import math
from typing import final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from lrscale.errors import LrscaleError

_BYTES = 256

_INIT_STD = 0.02
"""Standard deviation of the initial weights, as in GPT-2 (Radford et al. 2019)."""


@final
class Block(nn.Module):
    """Causal self-attention, then an MLP of four times the width, each as a residual of its normalised input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the new hidden state, shape ``(batch, context, width)`` like `hidden`."""
        batch, context, width = hidden.shape
        packed = self.query_key_value(self.attention_norm(hidden))
        query, key, value = packed.view(batch, context, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        attended = self.attention_out(attended.transpose(1, 2).reshape(batch, context, width))
        hidden = hidden + F.dropout(attended, self.dropout, self.training)
        expanded = F.gelu(self.mlp_in(self.mlp_norm(hidden)))
        return hidden + F.dropout(self.mlp_out(expanded), self.dropout, self.training)


@final
class ByteGPT(pl.LightningModule):
    """Predict the next byte with a decoder-only transformer with layer norm before each sublayer.

    Logs ``train_loss`` at every step and ``val_loss``, both mean cross-entropy in nats per byte. Weights start as in
    GPT-2 (Radford et al. 2019): standard deviation 0.02, divided by ``sqrt(2 * depth)`` where a sublayer joins the
    residual stream.

    Parameters
    ----------
    width : int, optional
        Size of the hidden state, a multiple of `heads`. Defaults to 64.
    depth : int, optional
        Blocks, at least 1. Defaults to 2.
    heads : int, optional
        Attention heads, at least 1. Defaults to 2.
    context : int, optional
        The longest window in bytes. At least the `context` of the data. Defaults to 64.
    dropout : float, optional
        In [0, 1), on attention weights and on what joins the residual stream. Defaults to 0.
    tied_head : bool, optional
        Share the weights of the embedding and of the output layer. Defaults to True.
    lr : float, optional
        Learning rate of AdamW, positive. Defaults to 3e-3.
    weight_decay : float, optional
        On matrices and embeddings; biases and norms have none. Defaults to 0.1.
    betas : tuple of float, optional
        Of AdamW. Defaults to (0.9, 0.95).

    Examples
    --------
    >>> model = ByteGPT(width=16, depth=1, heads=2, context=8)
    >>> model(torch.zeros(3, 8, dtype=torch.uint8)).shape
    torch.Size([3, 8, 256])
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 2,
        heads: int = 2,
        context: int = 64,
        dropout: float = 0.0,
        tied_head: bool = True,
        lr: float = 3e-3,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        super().__init__()
        if min(width, depth, heads, context) < 1 or width % heads != 0:
            raise LrscaleError(
                f"ByteGPT has width {width}, depth {depth}, heads {heads} and context {context}",
                hint="each is at least 1, and width is a multiple of heads",
            )
        self.save_hyperparameters()
        self.context = context
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = (betas[0], betas[1])
        self.embedding = nn.Embedding(_BYTES, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, _BYTES, bias=False)
        self._initialise(depth)
        if tied_head:
            self.head.weight = self.embedding.weight

    def _initialise(self, depth: int) -> None:
        nn.init.normal_(self.position, std=_INIT_STD)
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                joins_residual = name.endswith(("attention_out", "mlp_out"))
                nn.init.normal_(module.weight, std=_INIT_STD / math.sqrt(2 * depth) if joins_residual else _INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, text: Tensor) -> Tensor:
        """Return the logits of each next byte.

        Parameters
        ----------
        text : Tensor
            Bytes as integers in [0, 255], shape ``(batch, length)`` with length at most `context`.

        Returns
        -------
        Tensor
            Shape ``(batch, length, 256)``.
        """
        hidden = self.embedding(text.int()) + self.position[: text.shape[1]]
        hidden = F.dropout(hidden, self.dropout, self.training)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits

    def _loss(self, windows: Tensor) -> Tensor:
        logits = self(windows[:, :-1])
        # In float32 whatever the precision of the trainer: bfloat16 rounds a loss of 2 nats to 0.0078.
        return F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].long().flatten())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of a batch of windows, shape ``(batch, length + 1)``."""
        loss = self._loss(batch)
        self.log("train_loss", loss, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Log the loss of a batch of windows."""
        self.log("val_loss", self._loss(batch), batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> Optimizer:
        """Return AdamW with two groups: matrices and embeddings decay, biases and norms do not."""
        decayed = [weight for weight in self.parameters() if weight.ndim > 1]
        plain = [weight for weight in self.parameters() if weight.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return AdamW(groups, lr=self.lr, betas=self.betas)
