"""A certificate as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from unidet.certificate.certificate import Certificate, TensorDifference

if TYPE_CHECKING:
    from rich.console import Console


def print_certificate(certificate: Certificate, console: Console) -> None:
    """Prints the layers, the summary and the verdict.

    Args:
        certificate: what to print.
        console: where to.
    """
    console.print(_layers(certificate))
    console.print(_summary(certificate))
    for sentence in certificate.failures():
        console.print(f"  {sentence}", style="red", highlight=False, markup=False)
    if certificate.first_departure:
        console.print(
            f"  first layer that departs: {certificate.first_departure}",
            style="red",
            highlight=False,
            markup=False,
        )
    if not any(d.reference for d in certificate.detections):
        console.print(
            "  no detection was kept on either side: weights that are not trained say nothing "
            "about the kept detections",
            style="yellow",
        )
    style = "bold green" if certificate.passed else "bold red"
    sides = f"{certificate.reference} against {certificate.candidate}"
    console.print(f"{certificate.verdict}  {sides}", style=style, highlight=False)


def _layers(certificate: Certificate) -> Table:
    title = f"forward pass, {certificate.reference} against {certificate.candidate}"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("shape")
    for column in ("max diff", "mean diff", "relative", ""):
        table.add_column(column, justify="right")
    for layer in certificate.layers:
        _add(table, layer)
    table.add_section()
    for output in certificate.outputs:
        _add(table, output, prefix="output ")
    return table


def _add(table: Table, entry: TensorDifference, prefix: str = "") -> None:
    table.add_row(
        prefix + entry.name,
        "x".join(map(str, entry.shape)) or "1",
        entry.note or f"{entry.max_abs:.2e}",
        f"{entry.mean_abs:.2e}",
        f"{entry.relative:.2e}",
        "ok" if entry.ok else "FAIL",
        style=None if entry.ok else "red",
    )


def _summary(certificate: Certificate) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("what", "compared", "worst", "limit", ""):
        table.add_column(column, justify="left" if column == "what" else "right")
    limits, weights = certificate.thresholds, certificate.weights
    layers, outputs = certificate.layers, certificate.outputs
    losses, found = certificate.losses, certificate.detections
    cosine = _worst_cosine(certificate)
    rows: list[tuple[str, Sequence[Any], str, float | str]] = [
        ("weights", weights, f"{sum(w.ok for w in weights)} equal", "all"),
        ("layers, relative", layers, _worst(x.relative for x in layers), limits.layers),
        ("outputs", outputs, _worst(x.max_abs for x in outputs), limits.logits),
        ("losses, relative", losses, _worst(x.relative for x in losses), limits.losses),
        ("gradients, cosine", certificate.gradients, cosine, limits.cosine),
        ("detections, pixels", found, _worst(x.max_box for x in found), limits.boxes),
        ("detections, scores", found, _worst(x.max_score for x in found), limits.scores),
    ]
    for title, entries, worst, limit in rows:
        good = all(entry.ok for entry in entries)
        count = sum(x.matched for x in found) if entries is found else len(entries)
        shown = limit if isinstance(limit, str) else f"{limit:g}"
        mark = "-" if not entries else "ok" if good else "FAIL"
        table.add_row(title, str(count), worst, shown, mark, style=None if good else "red")
    return table


def _worst(values: Iterable[float]) -> str:
    largest = max(values, default=None)
    return "-" if largest is None else f"{largest:.2e}"


def _worst_cosine(certificate: Certificate) -> str:
    values = [g.cosine for g in certificate.gradients if not g.negligible]
    return f"{min(values):.7f}" if values else "-"
