"""The best LR against the batch size: the laws, their fit, and the choice between them."""

from lrscale.laws.optimal_lr import batch_laws as batch_laws
