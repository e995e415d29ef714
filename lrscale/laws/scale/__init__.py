"""Laws against scale: the loss, the best LR and the best batch size as functions of model size, data and batch size."""

from lrscale.laws.scale.compute_optimal import ComputeOptimal as ComputeOptimal
from lrscale.laws.scale.compute_optimal import compute_optimal as compute_optimal
from lrscale.laws.scale.loss_fit import fit_loss_scaling as fit_loss_scaling
from lrscale.laws.scale.optimum import fit_optimum_scaling as fit_optimum_scaling
from lrscale.laws.scale.optimum_fit import OptimumFit as OptimumFit
