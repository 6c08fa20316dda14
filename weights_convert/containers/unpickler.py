"""The one unpickler: an allow-list of names, each replaced by an inert stand-in."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any, BinaryIO

from unidet.files.shown import cut, printable, shown

from ..errors import CheckpointError, UnsafePickleError
from . import numpy_stand_ins as numpy_parts
from .hashing import Costs
from .rescue import settings_class, stub_class
from .stand_ins import (
    PLAIN_DTYPES,
    STORAGE_DTYPES,
    Allowed,
    Marker,
    StateDict,
    StorageType,
    TensorRef,
)

#: What reading a damaged pickle may raise.
PICKLE_ERRORS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeError,
    ValueError,
)

#: An opcode costs some ten bytes to hundreds of them; whole training states have thousands.
_MAX_OPCODES = 4_000_000

_DTYPE_WORDS = (
    *("float16", "float32", "float64", "bfloat16", "half", "float", "double"),
    *("int8", "int16", "int32", "int64", "short", "int", "long"),
    *("uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "strided"),
)


def _rebuild_v2(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    return TensorRef(storage, offset, size, stride)


def _rebuild_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> TensorRef:
    name = dtype.name.rpartition(".")[2] if isinstance(dtype, Marker) else ""
    if name not in PLAIN_DTYPES:
        raise CheckpointError(f"a tensor has the unsupported dtype {shown(name or dtype, 60)}")
    return TensorRef(storage, offset, size, stride, PLAIN_DTYPES[name])


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _ordered_dict(items: Any = ()) -> StateDict:
    if isinstance(items, dict):
        return StateDict(items)
    pairs: list[Any] = list(items) if isinstance(items, (list, tuple)) else [None]
    if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in pairs):
        raise CheckpointError("the pickle makes a dictionary of something else")
    # Hashing nested tuples that share their parts takes forever.
    if any(isinstance(key, (tuple, frozenset)) for key, _ in pairs):
        raise CheckpointError("the pickle has a dictionary with a tuple for a key")
    return StateDict(pairs)


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    # Protocol 2 spells bytes as encoded text.
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise CheckpointError("the pickle encodes something that is not text")
    return text.encode(encoding)


def _bytes(value: Any = b"", *_: Any) -> bytes:
    # Protocol 2 spells empty bytes as a call without arguments.
    if not isinstance(value, (bytes, bytearray)):
        raise CheckpointError("the pickle makes bytes of something else")
    return bytes(value)


def _size(value: Any = ()) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(isinstance(side, int) for side in value):
        raise CheckpointError(f"a tensor has the shape {shown(value, 60)}")
    return tuple(value)


def _text(*parts: Any) -> str:
    if not all(isinstance(part, (str, int)) for part in parts):
        raise CheckpointError("the pickle names a device that is no text")
    return ":".join(part if isinstance(part, str) else shown(part, 60) for part in parts)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_v2,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.Size": _size,
    "torch.device": _text,
    "torch.nn.parameter.Parameter": _first,
    "jittor.Var": _first,
    "jittor.jittor_core.Var": _first,
    "jittor_core.Var": _first,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _bytes,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "numpy.dtype": numpy_parts.DType,
}
for _core in ("numpy.core", "numpy._core"):
    _FUNCTIONS[f"{_core}.multiarray._reconstruct"] = numpy_parts.reconstruct
    _FUNCTIONS[f"{_core}.multiarray.scalar"] = numpy_parts.scalar
    _FUNCTIONS[f"{_core}.numeric._frombuffer"] = numpy_parts.from_buffer

#: Classes whose objects hold settings and nothing else (the options of a command line).
_SETTINGS = ("argparse.Namespace",)
#: Classes of values that training tools write beside the weights; their objects are left out.
_INERT = re.compile(
    r"collections\.(Counter|defaultdict|deque)|datetime\.(datetime|date|time|timedelta|timezone)|"
    r"pathlib\.(Pure)?(Posix|Windows)?Path|pathlib\._local\.(Pure)?(Posix|Windows)?Path|"
    r"(builtins|__builtin__)\.(list|dict|tuple|set|frozenset|int|float|str|bool|complex|object)|"
    r"mmengine\.logging\.history_buffer\.HistoryBuffer|mmengine\.config\.config\.ConfigDict|"
    r"yacs\.config\.CfgNode|addict\.addict\.Dict|easydict\.EasyDict|"
    r"omegaconf\.(dictconfig\.DictConfig|listconfig\.ListConfig|base\.\w+|nodes\.\w+)|"
    r"lightning_fabric\.utilities\.data\.AttributeDict|"
    r"(pytorch_lightning|lightning\.fabric)\.utilities\.(parsing|data)\.AttributeDict"
)
_MARKERS = {"numpy.ndarray", *(f"torch.{word}" for word in _DTYPE_WORDS)}

#: Helpers that TorchScript writes around lists.
_SCRIPT_FUNCTIONS = {
    f"torch.jit._pickle.{name}": _first
    for name in (
        "build_intlist",
        "build_tensorlist",
        "build_doublelist",
        "build_boollist",
        "restore_type_tag",
        "build_tensor_from_id",
    )
}


class RestrictedUnpickler(pickle.Unpickler):
    """Reads a pickle without reaching any class or function outside this package.

    Args:
        file: Where the pickle starts.
        source: Name of the file, for messages.
        persistent: Resolves persistent ids; without it they are an error.
        rescue: Stand inert objects in for unknown classes instead of refusing.
        script: The pickle is a TorchScript archive's: its ``__torch__`` classes become inert.
        encoding: For text of Python 2 pickles.
    """

    def __init__(
        self,
        file: BinaryIO,
        source: str,
        *,
        persistent: Callable[[Any], Any] | None = None,
        rescue: bool = False,
        script: bool = False,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._source, self._persistent = source, persistent
        self._rescue, self._script = rescue, script
        self._seen: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; fresh for each load, so that no load can alter the next."""
        path = f"{module}.{name}"
        if path not in self._seen:
            self._seen[path] = self._stand_in(path, module, name)
        return self._seen[path]

    def persistent_load(self, pid: Any) -> Any:
        """A storage."""
        if self._persistent is None:
            raise CheckpointError("the pickle refers to something outside itself")
        return self._persistent(pid)

    def _stand_in(self, path: str, module: str, name: str) -> Any:
        if path in _FUNCTIONS:
            return Allowed(_FUNCTIONS[path])
        if path in _MARKERS:
            return Marker(path)
        if path in _SETTINGS:
            return settings_class(path)
        if _INERT.fullmatch(path):
            return stub_class(path)
        storage = name[: -len("Storage")]
        known = module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage")
        if known and storage in STORAGE_DTYPES:
            return StorageType(STORAGE_DTYPES[storage])
        if self._script and path in _SCRIPT_FUNCTIONS:
            return Allowed(_SCRIPT_FUNCTIONS[path])
        if self._rescue or (self._script and module.startswith("__torch__")):
            return stub_class(path)
        raise UnsafePickleError(
            f"{self._source} refused: its pickle names {printable(path[:120])}, which is "
            "not on the allow-list of tensor files. Nothing was executed. "
            "`unidet convert import --rescue`, and pt2jt with --rescue for files of no known "
            "family, read such a file for its tensors alone, with inert stand-ins for classes, "
            "into a file of its own.",
            path,
        )


def check_stream(data: bytes, start: int = 0) -> tuple[int, int]:
    """Walks over the opcodes of one pickle without building anything.

    Returns:
        End of the pickle and number of opcodes.

    Raises:
        CheckpointError: unknown opcode, a length beyond the data, an absurd memo index.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    count = 0
    costs = Costs()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            if count > _MAX_OPCODES:
                raise CheckpointError(f"the pickle has more than {_MAX_OPCODES} opcodes")
            # The memo is an array: a huge index alone would take all memory.
            if "PUT" in opcode.name and isinstance(argument, int) and argument > count + 256:
                raise CheckpointError(f"the pickle has memo index {argument} at opcode {count}")
            if opcode.name.startswith(("EXT", "NEXT_BUFFER")):
                raise CheckpointError(f"the pickle uses the opcode {opcode.name}")
            costs.step(opcode, argument)
    except CheckpointError:
        raise
    except PICKLE_ERRORS as error:
        raise CheckpointError(
            f"the pickle is damaged or cut off ({cut(str(error), 200)})"
        ) from error
    return stream.tell(), count


def load_pickle(data: bytes, source: str, **options: Any) -> tuple[Any, int]:
    """Reads one pickle from ``data``.

    Returns:
        The object, stand-ins included (see :mod:`.resolve`), and where the pickle ends.

    Raises:
        UnsafePickleError: it names something outside the allow-list.
        CheckpointError: it is damaged.
    """
    end, _ = check_stream(data)
    stream = io.BytesIO(data)
    try:
        return RestrictedUnpickler(stream, source, **options).load(), end
    except CheckpointError:
        raise
    except PICKLE_ERRORS as error:
        raise CheckpointError(f"the pickle is damaged ({cut(str(error), 200)})") from error
