"""What a running study tells whoever watches."""

from lrscale.launch.progress import AbstractProgress as AbstractProgress
from lrscale.launch.progress import SilentProgress as SilentProgress
