"""The search for the best setting: its learning rates, its course, its confirmation, its answer."""
