"""A graph of ONNX operators, written like NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unidet.export.packages import onnx_package

#: What a masked score is set to, and a bound between it and every score.
LOWEST = float(np.finfo(np.float32).min)


class Value:
    """A tensor of a graph: its name and dtype, with the operators of arithmetic.

    Python numbers beside it take its dtype.
    """

    def __init__(self, graph: Graph, name: str, kind: str) -> None:
        self.graph, self.name, self.kind = graph, name, kind

    def _with(self, operator: str, other: Any, kind: str | None = None) -> Value:
        return self.graph.op(operator, self, self._like(other), kind=kind or self.kind)

    def _like(self, other: Any) -> Any:
        return other if isinstance(other, Value) else np.asarray(other, self.kind)

    def __add__(self, other: Any) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Value:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Value:
        return self._with("Div", other)

    #: Of integers that are not negative.
    __floordiv__ = __truediv__

    def __mod__(self, other: Any) -> Value:
        return self._with("Mod", other)

    def __pow__(self, other: Any) -> Value:
        return self._with("Pow", other)

    def __gt__(self, other: Any) -> Value:
        return self._with("Greater", other, "bool")

    def __ge__(self, other: Any) -> Value:
        return self._with("GreaterOrEqual", other, "bool")

    def __lt__(self, other: Any) -> Value:
        return self._with("Less", other, "bool")

    def __and__(self, other: Any) -> Value:
        return self._with("And", other, "bool")

    def same(self, other: Any) -> Value:
        """Where both are equal, bool."""
        return self._with("Equal", other, "bool")

    def maximum(self, other: Any) -> Value:
        """The larger of both."""
        return self._with("Max", other)

    def minimum(self, other: Any) -> Value:
        """The smaller of both."""
        return self._with("Min", other)

    def cast(self, kind: str) -> Value:
        """In another dtype."""
        if kind == self.kind:
            return self
        code = onnx_package().helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return self.graph.op("Cast", self, kind=kind, to=code)

    def reshape(self, *sides: int) -> Value:
        """Another shape; -1 once for what is left."""
        return self.graph.op("Reshape", self, np.array(sides, np.int64), allowzero=1)

    def transpose(self, *axes: int) -> Value:
        """Axes in another order."""
        return self.graph.op("Transpose", self, perm=axes)

    def take(self, index: Any, axis: int = 0) -> Value:
        """``numpy.take``: ``index`` is an int64 tensor or array."""
        return self.graph.op("Gather", self, index, axis=axis)

    def column(self, index: int) -> Value:
        """``x[:, index]``."""
        return self.take(np.array(index, np.int64), axis=1)

    def part(self, start: Any, stop: Any, axis: int = 0) -> Value:
        """``x[start:stop]`` along an axis; bounds are numbers or int64 ``(1,)``."""
        bounds = [b if isinstance(b, Value) else np.array([b], np.int64) for b in (start, stop)]
        return self.graph.op("Slice", self, *bounds, np.array([axis], np.int64))

    def side(self, axis: int) -> Value:
        """Length along an axis, int64 ``(1,)``."""
        shape = self.graph.op("Shape", self, kind="int64")
        return shape.take(np.array([axis], np.int64))

    def best(self, count: Any, largest: bool = True) -> tuple[Value, Value]:
        """The ``count`` largest values of a vector, falling, and their places.

        At ties the lower place comes first. ``count``, int64 ``(1,)`` or a number, may exceed the
        length.
        """
        graph = self.graph
        limit = self.side(0).minimum(count if isinstance(count, Value) else [count])
        values, places = graph.ops("TopK", self, limit, outputs=2, largest=int(largest), axis=0)
        places.kind = "int64"
        return values, places


class Graph:
    """Nodes and constants in the making.

    Args:
        opset: version of the operators.
        parent: the graph around the body of a loop, whose values are seen inside.
    """

    def __init__(self, opset: int, parent: Graph | None = None) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.root: Graph = self if parent is None else parent.root
        self.depth: int = 0 if parent is None else parent.depth + 1
        if parent is None:
            self.constants: list[Any] = []
            self._count = 0
            self._known: dict[tuple[Any, ...], str] = {}

    def fresh(self, word: str) -> str:
        """A name that is not taken."""
        self.root._count += 1
        return f"{word}_{self.root._count}"

    def ops(
        self, operator: str, *inputs: Any, outputs: int, kind: str | None = None, **attributes: Any
    ) -> list[Value]:
        """Adds a node with several answers; arrays among the inputs become constants.

        It goes into the innermost graph that one of its inputs belongs to.
        """
        values = [x if isinstance(x, Value) else self.constant(x) for x in inputs]
        place = max([self, *(value.graph for value in values)], key=lambda graph: graph.depth)
        kind = kind or values[0].kind
        names = [self.fresh(operator.lower()) for _ in range(outputs)]
        node = onnx_package().helper.make_node(
            # Unnamed nodes collide where a runtime derives names from theirs.
            operator,
            [value.name for value in values],
            names,
            names[0],
            **attributes,
        )
        place.nodes.append(node)
        return [Value(place, name, kind) for name in names]

    def op(self, operator: str, *inputs: Any, kind: str | None = None, **attributes: Any) -> Value:
        """Adds a node with one answer, of the dtype of its first input unless ``kind`` says."""
        return self.ops(operator, *inputs, outputs=1, kind=kind, **attributes)[0]

    def constant(self, array: Any) -> Value:
        """A constant of the file; equal ones share their place."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        root = self.root
        if key not in root._known:
            root._known[key] = self.fresh("constant")
            tensor = onnx_package().numpy_helper.from_array(array, root._known[key])
            root.constants.append(tensor)
        return Value(self, root._known[key], array.dtype.name)

    def concat(self, values: Sequence[Any], axis: int = 0) -> Value:
        """``numpy.concatenate``."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        """``numpy.where``; one of both may be a number."""
        kind = x.kind if isinstance(x, Value) else y.kind
        pair = [v if isinstance(v, Value) else np.asarray(v, kind) for v in (x, y)]
        return self.op("Where", condition, *pair, kind=kind)

    def places(self, mask: Value) -> Value:
        """``numpy.flatnonzero`` of a vector."""
        return self.op("NonZero", mask, kind="int64").reshape(-1)

    def counted(self, count: Value) -> Value:
        """``numpy.arange`` of int64 ``(1,)``."""
        stop = count.take(np.array(0, np.int64))
        return self.op("Range", np.array(0, np.int64), stop, np.array(1, np.int64), kind="int64")

    def all_of(self, mask: Value) -> Value:
        """``(n, 4)`` or ``(n, 2)`` bool to ``(n,)``: whether a whole row holds."""
        # An attribute up to opset 17, an input from 18 on.
        axes: dict[str, Any] = {"axes": [1]} if self.opset < 18 else {}
        more = () if axes else (np.array([1], np.int64),)
        numbers = mask.cast("int32")
        return self.op("ReduceMin", numbers, *more, keepdims=0, **axes).same(1)

    def finite(self, x: Value) -> Value:
        """Where neither NaN nor infinite."""
        return self.op("Abs", x) < np.inf

    def embed(self, model: Any, inputs: Mapping[str, Value], kind: str = "float32") -> list[Value]:
        """Puts the graph of a model among the nodes.

        Args:
            model: ``ModelProto`` without functions and control flow.
            inputs: what takes the place of each of its inputs.
            kind: dtype of its answers.
        """
        names = {name: value.name for name, value in inputs.items()}
        for tensor in model.graph.initializer:
            names[tensor.name] = self.fresh("weight")
            tensor.name = names[tensor.name]
            self.root.constants.append(tensor)
        for node in model.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = names[name] if name else ""
            for i, name in enumerate(node.output):
                if name:
                    names[name] = self.fresh(node.op_type.lower())
                    node.output[i] = names[name]
            node.name = node.output[0]
            self.nodes.append(node)
        return [Value(self, names[output.name], kind) for output in model.graph.output]

    def loop(
        self,
        trips: Value | None,
        going: Value,
        carried: Sequence[Value],
        body: Any,
        collected: Sequence[str] = (),
    ) -> list[Value]:
        """Repeats ``body``.

        Args:
            trips: most rounds, int64 ``()``; None: no limit.
            going: whether there is a first round, bool ``()``.
            carried: what each round hands to the next.
            body: ``body(graph, round, *carried)`` gives whether to go on, a list of what it
                carries, and a list of what it collects, ``(1,)`` each.
            collected: dtype of each value that is collected.

        Returns:
            The values carried at the end, then what was collected, one row for each round.
        """
        helper = onnx_package().helper
        inner = Graph(self.opset, self)
        numbers = Value(inner, self.fresh("round"), "int64")
        before = Value(inner, self.fresh("going"), "bool")
        states = [Value(inner, self.fresh("state"), value.kind) for value in carried]
        more, after, rows = body(inner, numbers, *states)
        answers = [more, *after, *rows]
        # A value from outside cannot leave a body by itself.
        ends = [inner.op("Identity", value) for value in answers]

        def described(value: Value, shape: Any = None) -> Any:
            code = helper.np_dtype_to_tensor_dtype(np.dtype(value.kind))
            return helper.make_tensor_value_info(value.name, code, shape)

        graph = helper.make_graph(
            inner.nodes,
            self.fresh("body"),
            [described(numbers, ()), described(before, ()), *map(described, states)],
            [
                described(ends[0], ()),
                *map(described, ends[1 : len(states) + 1]),
                *(described(end, (1,)) for end in ends[len(states) + 1 :]),
            ],
        )
        names = [self.fresh("loop") for _ in (*carried, *collected)]
        inputs = ["" if trips is None else trips.name, going.name, *(v.name for v in carried)]
        self.nodes.append(helper.make_node("Loop", inputs, names, names[0], body=graph))
        kinds = [*(value.kind for value in carried), *collected]
        return [Value(self, name, kind) for name, kind in zip(names, kinds)]
