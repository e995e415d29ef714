"""What is believed of the shape of a loss over LR and batch size before any run. Spreads are judgement, and wide."""

from __future__ import annotations

LOW_EXPONENT, HIGH_EXPONENT, SHAPE_SD = 0.5, 1.0, 0.4
"""Medians and log standard deviation of the basin's exponents below and above the best LR. Both are 1 in the convex
bound (Schaipp et al. 2025, arXiv:2501.18965), and the side towards divergence is the steeper one."""
BATCH_EXPONENTS = (0.4, 0.5)
"""Medians of the basin's exponents below and above the best batch size."""
BATCH_WEIGHT = 0.5
"""Median of the curvature along the batch size against that along the LR."""
