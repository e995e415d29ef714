"""Several horizons from one trunk with cooldowns, for each learning rate."""
