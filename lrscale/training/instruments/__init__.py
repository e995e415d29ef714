"""Measurements that ride along with training and leave it untouched."""
