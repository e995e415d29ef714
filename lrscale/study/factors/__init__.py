"""Entries of the task against the LR: what is trained for `experiments.factors`, and what it says."""
