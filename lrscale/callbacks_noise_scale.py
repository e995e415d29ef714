"""The callback that measures the gradient noise scale of an ordinary training job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrscale.training.instruments.noise_scale import NoiseScaleInstrument

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    from lrscale.callbacks import _Callback


class GradientNoiseScale(NoiseScaleInstrument, _Callback):
    """Measure the gradient noise scale of a training run, without changing the run.

    The noise scale ``tr(Sigma) / |G|^2`` (McCandlish et al. 2018, arXiv:1812.06162), in examples, is the batch at which
    the noise of a gradient is as large as the gradient. It is a proxy for the critical batch size.

    With several ranks, or with gradient accumulation, a step has several micro-gradients: one of each backward of each
    rank. Their norms are read as autograd hands them over, before the all-reduce, and that of their mean before
    clipping; nothing is computed twice, the ranks exchange a few sums every 100 steps, and the parameters come out the
    same to the last bit. On one device without accumulation a step has one gradient, and the batch of every
    `split_every`-th step is cut into `parts` for one more forward and backward, whose traces in random state, buffers,
    metrics, attributes, logs and ``grad`` are undone; what ``training_step`` writes to a file is not. That needs a
    batch of tensors with one common first dimension and a ``training_step(batch, batch_idx)`` that returns its loss;
    otherwise the result says what is in the way. The loss must be a mean over the examples of a micro-batch, or all
    micro-batches be of one size. Batch norm and other layers that look across a batch see smaller ones in the parts.

    Nothing is measured with manual optimization, where a strategy shards gradients, or behind a DDP communication hook.

    Parameters
    ----------
    preconditioned_every : int or None, optional
        Measured steps between those for which gradients are also divided by ``sqrt(v_hat) + eps``, as Adam divides
        them. Default 20; None: never.
    split_every : int, optional
        Steps between those whose batch is cut into parts, at least 1. Default 32: about a thirtieth more compute.
    parts : int, optional
        Parts of such a batch, at least 2. Default 8.
    budget : float or None, optional
        Largest share of the time of training that measuring may take, in (0, 1). Default 0.015: where steps are so
        short that measuring all of them would take more, every second, third, ... step is measured, and batches are cut
        into parts more rarely than `split_every`. The ranks agree on it. None: no limit.
    examples : int, callable or None, optional
        Examples of a micro-batch, or a function of the batch that returns them. Default None: the loader's batch size.
    confidence : float, optional
        Of every interval. Default 0.95.
    log : bool, optional
        Log ``noise_scale`` over the last 500 measured steps whenever the ranks exchange. Default False.

    Raises
    ------
    LrscaleError
        When an argument is out of range.

    Examples
    --------
    >>> instrument = GradientNoiseScale()
    >>> trainer = Trainer(devices=2, callbacks=[instrument])  # doctest: +SKIP
    >>> trainer.fit(module, data)  # doctest: +SKIP
    >>> print(instrument.result().summary())  # doctest: +SKIP
    Noise scale 512 examples (95 % 463 to 571): |G|^2 is ...
    >>> instrument.result().total.reason
    'no fit has begun'
    """
