"""The training worker: the only package that imports torch and Lightning."""
