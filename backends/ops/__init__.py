"""The operations: plain functions over native tensors.

The implementation is chosen by the type of the first tensor argument. Creation functions take
``like=`` (a tensor whose backend and device are copied) or ``backend=``. No operation writes to its
arguments. :mod:`tests.ops.spec` says of each what it promises; the tests hold it to that.

A new operation is a function in one of the modules below, named in its ``__all__``, and one in each
of ``unidet.backends.numpy``, ``torch`` and ``jittor``, in a module that their ``ops`` imports.
"""

# ruff: noqa: F403

from unidet.backends.ops import (
    creation,
    detection,
    elementwise,
    gradients,
    indexing,
    network,
    reductions,
    shaping,
)
from unidet.backends.ops._dispatch import Tensor
from unidet.backends.ops.creation import *
from unidet.backends.ops.detection import *
from unidet.backends.ops.elementwise import *
from unidet.backends.ops.gradients import *
from unidet.backends.ops.indexing import *
from unidet.backends.ops.network import *
from unidet.backends.ops.reductions import *
from unidet.backends.ops.shaping import *

__all__ = ["Tensor"]
__all__ += creation.__all__
__all__ += detection.__all__
__all__ += elementwise.__all__
__all__ += gradients.__all__
__all__ += indexing.__all__
__all__ += network.__all__
__all__ += reductions.__all__
__all__ += shaping.__all__
