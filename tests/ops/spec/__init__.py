"""What each operation promises. Its tests are generated from this table.

    from tests.ops.spec import TABLE
    TABLE["conv2d"].signature, TABLE["conv2d"].tolerance, TABLE["conv2d"].samples()

An operation without an entry, or an entry without samples, fails the tests.
"""

from tests.ops.spec._types import TOLERANCES, OpSpec, Sample, Tolerance
from tests.ops.spec.control import OPS as _CONTROL
from tests.ops.spec.elementwise import OPS as _ELEMENTWISE
from tests.ops.spec.indexing import OPS as _INDEXING
from tests.ops.spec.network import OPS as _NETWORK
from tests.ops.spec.reductions import OPS as _REDUCTIONS
from tests.ops.spec.shaping import OPS as _SHAPING

TABLE: dict[str, OpSpec] = {
    spec.name: spec
    for group in (_CONTROL, _ELEMENTWISE, _REDUCTIONS, _INDEXING, _SHAPING, _NETWORK)
    for spec in group
}

__all__ = ["TABLE", "TOLERANCES", "OpSpec", "Sample", "Tolerance"]
