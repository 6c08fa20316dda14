"""The demonstration: trained on Jittor, moved to PyTorch, proven to be the same model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from unidet.config import load_config
from unidet.errors import UserError

if TYPE_CHECKING:
    from unidet.certificate import Certificate
    from unidet.data import DetectionDataset
    from unidet.evaluation import EvaluationResult

CONFIG = "quickstart"
PICTURES = 6


@dataclass(frozen=True)
class Goals:
    """What the demonstration has to reach.

    Attributes:
        ap50: AP50 on scenes that were not trained on.
        ap_difference: largest difference of AP between the two frameworks.
    """

    ap50: float = 0.70
    ap_difference: float = 0.002


@dataclass
class DemoResult:
    """What the demonstration measured.

    Attributes:
        metrics: COCO metrics for each backend, on the same scenes and with the same weights.
        certificate: of the two backends.
        seconds: duration of each part.
        goals: what had to be reached.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    certificate: Certificate | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    goals: Goals = field(default_factory=Goals)

    def failures(self) -> list[str]:
        """One sentence for each goal that was missed."""
        found = []
        for backend, metrics in self.metrics.items():
            if not metrics["AP50"] >= self.goals.ap50:
                found.append(
                    f"AP50 on {backend} is {metrics['AP50']:.3f}, expected {self.goals.ap50}"
                )
        values = [metrics["AP"] for metrics in self.metrics.values()]
        if not max(values) - min(values) <= self.goals.ap_difference:
            found.append(f"AP differs by {max(values) - min(values):.4f} between the backends")
        if self.certificate is None or not self.certificate.passed:
            found.append("the certificate says FAIL")
        return found


def run_demo(
    out: str | Path, *, overrides: list[str] | None = None, overwrite: bool = False
) -> DemoResult:
    """Trains on Jittor, converts with ``jt2pt``, evaluates on both, certifies, draws.

    Args:
        out: folder of the run; holds the run folder's files, ``model.pth`` (opens with plain
            ``torch.load``), ``demo.parity.json`` and ``pictures/``.
        overrides: changes to the quickstart config, ``key=value``.
        overwrite: replace an earlier run in ``out``.

    Raises:
        UserError: bad input, or a framework is missing.
        RunFailedError: training diverged or the disk refused a write.
    """
    from unidet.backends import available

    missing = {"jittor", "torch"} - set(available())
    if missing:
        raise UserError(
            f"The demonstration needs torch and jittor; {' and '.join(sorted(missing))} is not "
            "installed. Install both: pip install 'unidet[demo]'."
        )
    console = Console(highlight=False)
    result = DemoResult()
    root = Path(out)
    config = load_config(CONFIG, overrides or [])
    with _part(console, result, "1. train on Jittor"):
        from unidet.engine import train

        train(config, backend="jittor", work_dir=root, overwrite=overwrite)
    best, moved = root / "best.safetensors", root / "model.pth"
    with _part(console, result, "2. move the weights to PyTorch"):
        _move(best, moved, console)
    with _part(console, result, "3. evaluate on both, on unseen scenes"):
        dataset, found = _evaluate(config, root, best, moved, result)
        console.print(found["torch"].table)
    with _part(console, result, "4. certify that both are the same model"):
        result.certificate = _certify(best, root / "demo.parity.json", console)
    with _part(console, result, "5. draw"):
        _draw(root, dataset, found["torch"])
    _report(console, root, result)
    return result


@contextmanager
def _part(console: Console, result: DemoResult, title: str) -> Iterator[None]:
    console.rule(title, align="left")
    started = time.perf_counter()
    yield
    result.seconds[title] = time.perf_counter() - started


def _move(source: Path, destination: Path, console: Console) -> None:
    from unidet.weights_convert import jt2pt

    moved = jt2pt(source, destination, overwrite=True)
    console.print(f"{moved.tensors} tensors, {moved.values:,} values: {destination}")


def _evaluate(
    config: Any, root: Path, best: Path, moved: Path, result: DemoResult
) -> tuple[DetectionDataset, dict[str, EvaluationResult]]:
    """Jittor reads unidet's own file, PyTorch the converted one."""
    import unidet
    from unidet.checkpoints.native import load_checkpoint
    from unidet.engine.setup import build_loader, load_datasets

    (dataset,) = load_datasets(config, "val", root)
    saved = load_checkpoint(best).model
    found = {}
    for backend, weights in (("jittor", best), ("torch", moved)):
        model = unidet.create_model(
            saved["name"], backend=backend, seed=None, **saved.get("arguments", {})
        )
        unidet.load_weights(model, weights)
        loader = build_loader(config, [dataset], model, train=False, seed=config.train.seed)
        found[backend] = unidet.evaluate_model(model, loader, dataset)
        result.metrics[backend] = found[backend].metrics
    return dataset, found


def _certify(checkpoint: Path, destination: Path, console: Console) -> Certificate:
    from unidet.certificate.certify import certify
    from unidet.checkpoints.native import load_checkpoint

    content = load_checkpoint(checkpoint)
    certificate = certify(content.model, content.arrays)
    certificate.save(destination)
    console.print(f"{certificate.verdict}: {destination}")
    for line in certificate.failures():
        console.print(f"  {line}")
    return certificate


def _draw(root: Path, dataset: DetectionDataset, found: EvaluationResult) -> None:
    from unidet.structures import Detections
    from unidet.visualization import side_by_side, write_image

    for index in range(min(PICTURES, len(dataset))):
        record = dataset.images[index]
        entries = [entry for entry in found.results if entry["image_id"] == record.id]
        picture = side_by_side(
            dataset.read(index),
            dataset.targets(index),
            Detections.from_coco(entries, dataset.category_ids, dataset.class_names),
            class_names=dataset.class_names,
            title=record.file_name,
        )
        write_image(root / "pictures" / f"{Path(record.file_name).stem}.jpg", picture)


def _report(console: Console, root: Path, result: DemoResult) -> None:
    table = Table("backend", "AP", "AP50", "AP75", title="the same weights on unseen scenes")
    for backend, metrics in result.metrics.items():
        table.add_row(backend, *(f"{metrics[name]:.4f}" for name in ("AP", "AP50", "AP75")))
    console.print(table)
    for title, seconds in result.seconds.items():
        console.print(f"{title:45} {seconds:7.1f} s")
    console.print(f"\nLook at {root}/pictures, {root}/loss_curve.png, {root}/demo.parity.json")
    failures = result.failures()
    for line in failures:
        console.print(f"missed: {line}")
    if not failures:
        console.print("All goals reached.")
