"""Gradients for tests and tools; training goes through :mod:`unidet.backends.optim`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from unidet.backends import registry
from unidet.backends.ops._dispatch import IMPLEMENTATION, Tensor

__all__ = ["grad", "value_and_grad", "no_grad", "sync"]


def grad(fn: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Value of ``fn(*inputs)`` and its gradient with respect to each input.

    Args:
        fn: returns a tensor of one element.
        inputs: floating tensors; parameters that ``fn`` reaches by itself are allowed too.

    Returns:
        The detached value and one gradient for each input, zeros where ``fn`` ignores it.

    Raises:
        TypeError: NumPy arrays, which have no gradients.
        ValueError: ``inputs`` is empty, or ``fn`` does not return one element.
    """
    if not len(inputs):
        raise ValueError("Invalid value for `inputs`. Expected one tensor or more. Received none.")
    return IMPLEMENTATION[type(inputs[0])].grad(fn, inputs)


def value_and_grad(fn: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, list[Tensor]]]:
    """A function of the same arguments that returns the result of :func:`grad`."""
    return lambda *inputs: grad(fn, inputs)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """No gradients are recorded inside the block, by any framework in use."""
    with contextlib.ExitStack() as stack:
        for name in registry.FRAMEWORKS:
            if name in sys.modules:
                stack.enter_context(registry.implementation(name).no_grad())
        yield


def sync(x: Tensor) -> None:
    """Waits until ``x`` is computed, for timing and for errors to surface."""
    IMPLEMENTATION[type(x)].sync(x)
