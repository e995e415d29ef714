"""Several thin slices in one stage: the loss over LR and batch size."""
