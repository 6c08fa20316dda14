"""What each operation promises. Its tests are generated from this table.

    from unidet.backends.spec import TABLE
    TABLE["conv2d"].signature, TABLE["conv2d"].tolerance, TABLE["conv2d"].samples()

An operation without an entry, or an entry without samples, fails the tests.
"""

from unidet.backends.spec._types import TOLERANCES, OpSpec, Sample, Tolerance
from unidet.backends.spec.control import OPS as _CONTROL
from unidet.backends.spec.elementwise import OPS as _ELEMENTWISE
from unidet.backends.spec.indexing import OPS as _INDEXING
from unidet.backends.spec.network import OPS as _NETWORK
from unidet.backends.spec.reductions import OPS as _REDUCTIONS
from unidet.backends.spec.shaping import OPS as _SHAPING

TABLE: dict[str, OpSpec] = {
    spec.name: spec
    for group in (_CONTROL, _ELEMENTWISE, _REDUCTIONS, _INDEXING, _SHAPING, _NETWORK)
    for spec in group
}

__all__ = ["TABLE", "TOLERANCES", "OpSpec", "Sample", "Tolerance"]
