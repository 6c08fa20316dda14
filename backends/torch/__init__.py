"""PyTorch behind the neutral layer. Importing this package prepares the process, then PyTorch."""

from unidet.backends.torch import memory

memory.prepare()
