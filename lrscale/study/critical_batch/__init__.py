"""The critical batch size, by branches at larger batches from one trunk."""
