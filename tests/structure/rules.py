"""What source text may not do. Each rule takes a parsed module and yields "line: what is wrong"."""

from __future__ import annotations

import ast
from collections.abc import Iterator

FRAMEWORKS = ("torch", "jittor", "torchvision", "jittor_utils")
BACKEND_NAMES = ("torch", "jittor", "numpy")

#: Calls whose result lives on the host, by the name that is called.
HOST_CALLS = {
    "dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "len", "int", "float", "str",
    "range", "sorted", "to_numpy", "bytearray", "deque", "prod",
    "to_dict", "asdict", "tolist",
}  # fmt: skip
#: Words in an annotation that say the same.
HOST_WORDS = (
    "np.", "ndarray", "dict", "list", "OrderedDict", "Mapping", "int", "float", "str", "bool",
)  # fmt: skip


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that is imported, however it is written.

    ``from a import b`` yields ``a.b``, for ``b`` may be a module; ``package`` is what relative
    imports are relative to.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                root = ".".join(parents[: len(parents) - node.level + 1])
                base = f"{root}.{base}" if base else root
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def framework_imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Imports of a framework."""
    for line, name in imported_modules(tree, package):
        if name.partition(".")[0] in FRAMEWORKS:
            yield f"{line}: imports {name}"


def raw_reads(tree: ast.AST) -> Iterator[str]:
    """Calls that read a text or JSON past :mod:`unidet.files`, whose rules hold for all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            if (node.func.attr == "read_text" and called != "reading.read_text") or called in (
                "json.load",
                "json.loads",
            ):
                yield f"{node.lineno}: {called}"


def foreign_imports(tree: ast.AST, package: str, allowed: tuple[str, ...]) -> Iterator[str]:
    """Imports of parts of unidet other than those allowed."""
    for line, name in imported_modules(tree, package):
        inside = name.partition(".")[0] == "unidet"
        if inside and not any(name == a or name.startswith(f"{a}.") for a in allowed):
            yield f"{line}: imports {name}"


def backend_branches(tree: ast.AST) -> Iterator[str]:
    """Comparisons with, tables over, and questions for the name of a backend."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(_names_backend(part) for side in sides for part in ast.walk(side)):
                yield f"{node.lineno}: compares with the name of a backend"
        elif isinstance(node, ast.MatchValue) and _names_backend(node.value):
            yield f"{node.lineno}: matches the name of a backend"
        elif isinstance(node, ast.Dict) and any(_names_backend(key) for key in node.keys):
            yield f"{node.lineno}: has a table keyed by backend"
        elif isinstance(node, ast.Call) and _called(node) == "backend_of":
            yield f"{node.lineno}: asks which backend a tensor belongs to"


def writes_in_place(tree: ast.Module) -> Iterator[str]:
    """Writes to what is not provably a host value, and calls of in-place methods.

    A value is the host's when every binding of its name in the function is: a number, text or
    container display, a call of NumPy or of a builtin that makes one, or an annotation that says
    so. Everything else might be a tensor, which the frameworks update with different meanings.
    """
    host_attributes = _host_attributes(tree)
    for scope in _scopes(tree):
        host = _host_names(scope)
        for node in _own_nodes(scope):
            for target in _written(node):
                root = _root(target)
                if isinstance(root, ast.Name) and root.id in host:
                    continue
                if isinstance(root, ast.Attribute) and root.attr in host_attributes:
                    continue
                yield f"{node.lineno}: writes to {ast.unparse(target)} in place"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                method = node.func.attr
                if method.endswith("_") and not method.startswith("_"):
                    yield f"{node.lineno}: calls the in-place method {method}"
                if any(word.arg == "out" for word in node.keywords):
                    yield f"{node.lineno}: writes into out= of {ast.unparse(node.func)}"


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _names_backend(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in BACKEND_NAMES


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions inside it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def _written(node: ast.AST) -> Iterator[ast.expr]:
    """Targets that an assignment changes rather than binds anew."""
    if isinstance(node, ast.AugAssign):
        yield node.target
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
                    yield part
    elif isinstance(node, ast.Delete):
        yield from (target for target in node.targets if isinstance(target, ast.Subscript))


def _root(target: ast.expr) -> ast.expr:
    while isinstance(target, ast.Subscript):
        target = target.value
    return target


def _host_names(scope: ast.AST) -> set[str]:
    bindings: dict[str, list[bool]] = {}
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = scope.args
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            bindings[argument.arg] = [_host_annotation(argument.annotation)]
    for node in _own_nodes(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _bind(target, node.value, bindings)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            bindings.setdefault(node.target.id, []).append(_host_annotation(node.annotation))
    return {name for name, kinds in bindings.items() if all(kinds)}


def _bind(target: ast.expr, value: ast.expr, bindings: dict[str, list[bool]]) -> None:
    if isinstance(target, ast.Name):
        bindings.setdefault(target.id, []).append(_host_value(value))
    elif isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [value] * len(target.elts)
        for part, source in zip(target.elts, values, strict=False):
            _bind(part, source, bindings)


def _host_attributes(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _host_value(node.value):
            found |= {t.attr for t in node.targets if isinstance(t, ast.Attribute)}
        elif isinstance(node, ast.AnnAssign) and _host_annotation(node.annotation):
            target = node.target
            found |= {target.attr} if isinstance(target, ast.Attribute) else set()
    return found


def _host_annotation(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation).startswith(HOST_WORDS)


def _host_value(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant | ast.JoinedStr):
        return True
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    if isinstance(value, ast.Call):
        function = value.func
        if _called(value) in HOST_CALLS:
            return True
        # np.zeros(...), np.random.default_rng(...), np.zeros(...).astype(...)
        while isinstance(function, ast.Attribute):
            function = function.value
        if isinstance(function, ast.Name) and function.id in ("np", "math"):
            return True
        return isinstance(function, ast.Call) and _host_value(function)
    return False
