"""LR slices: loss against LR at one batch size, and where it is lowest."""
