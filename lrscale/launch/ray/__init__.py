"""Trials on a Ray cluster. Nothing here imports Ray before it is used: it is the extra ``ray``."""

from lrscale.launch.ray.launcher import RayLauncher as RayLauncher
