"""Speed of RoIAlign: our kernel on both frameworks beside two forms in plain torch.

Run as ``python benchmarks/roi_align.py [--rounds N] [--threads N] [--case NAME ...]``. The forms
are the embedding bag (a cell is a weighted sum of rows of a table of pixels) and ``grid_sample``
followed by a mean. Tables of weights and grids of the two are made beforehand and not timed; ours
makes its own each time. Methods take turns within each round, so that other load on the machine
meets all of them. Printed are medians in milliseconds and, in brackets, the median of the paired
ratios to the embedding bag. "C4 sr0" is the head of a C4 network with as many samples as a cell is
long; "P2 sr2" the finest level of a pyramid with two samples along each side.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from heap import as_alone

from unidet.backends import ops, registry
from unidet.backends.kernels import composite_roi
from unidet.backends.kernels import roi_align as roi_kernels


@dataclass(frozen=True)
class Case:
    """Shapes of one measurement."""

    maps: tuple[int, int, int, int]
    boxes: int
    size: int
    scale: float
    sampling_ratio: int
    sides: tuple[float, float]


CASES = {
    "C4 sr0": Case((1, 1024, 50, 84), 512, 14, 1 / 16, 0, (16, 600)),
    "C4 sr2": Case((1, 1024, 50, 84), 512, 14, 1 / 16, 2, (16, 600)),
    "P2 sr2": Case((2, 256, 200, 336), 1000, 7, 1 / 4, 2, (16, 112)),
}

Method = Callable[[bool], None]


def regions(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of log-uniform sides inside the image, and their images."""
    rng = np.random.default_rng(0)
    n, _, height, width = case.maps
    extent = np.array([width, height]) / case.scale
    sides = np.exp(rng.uniform(*np.log(case.sides), (case.boxes, 2)))
    low = rng.uniform(0, 1, (case.boxes, 2)) * (extent - sides)
    boxes = np.concatenate([low, low + sides], 1).astype(np.float32)
    return boxes, rng.integers(0, n, case.boxes)


def tables(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the table of pixels, their weights, and where each cell's begin."""
    boxes, images = regions(case)
    height, width = case.maps[2:]
    size = (case.size, case.size)
    options = roi_kernels.options_of(size, (case.scale,), case.sampling_ratio, True)
    rows, weights, counts = [], [], []
    for box, image in zip(boxes, images):
        found, share = composite_roi.taps(box, height, width, options, case.scale)
        used = share != 0
        rows.append((found + image * height * width)[used])
        weights.append(share[used])
        counts.append(used.sum(1))
    starts = np.cumsum([0, *np.concatenate(counts)])[:-1]
    return np.concatenate(rows), np.concatenate(weights), starts


def torch_methods(case: Case, last: bool) -> dict[str, Method]:
    """The three forms in torch on one memory layout; each takes whether to go back, too."""
    import torch
    import torch.nn.functional as F

    channels = case.maps[1]
    layout = torch.channels_last if last else torch.contiguous_format
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(case.maps, generator=generator).contiguous(memory_format=layout)
    maps.requires_grad_()
    shape = (case.boxes, channels, case.size, case.size)
    gradient = torch.randn(shape, generator=generator).contiguous(memory_format=layout)
    boxes, images = regions(case)
    rows, weights, starts = (torch.from_numpy(a) for a in tables(case))

    def kernel(x: torch.Tensor) -> torch.Tensor:
        options = {"scale": case.scale, "sampling_ratio": case.sampling_ratio}
        return ops.roi_align(x, boxes, images, case.size, **options)

    def bag(x: torch.Tensor) -> torch.Tensor:
        table = x.permute(0, 2, 3, 1).reshape(-1, channels)
        cells = F.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights)
        cells = cells.view(case.boxes, case.size, case.size, channels).permute(0, 3, 1, 2)
        return cells.contiguous(memory_format=layout)

    grids = sampling_grids(case, boxes, images)

    def grid_sample(x: torch.Tensor) -> torch.Tensor:
        ratio, parts, order = case.sampling_ratio, [], []
        for image, members, grid in grids:
            grid = torch.from_numpy(grid)
            found = F.grid_sample(x[image : image + 1], grid, "bilinear", "border", False)
            found = found.view(channels, len(members), case.size, ratio, case.size, ratio)
            parts.append(found.mean((3, 5)).transpose(0, 1))
            order.append(members)
        index = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(parts)[index].contiguous(memory_format=layout)

    def method(form: Callable[[torch.Tensor], torch.Tensor]) -> Method:
        def run(back: bool) -> None:
            with torch.set_grad_enabled(back):
                cells = form(maps)
            if back:
                torch.autograd.grad(cells, maps, gradient)

        return run

    forms = {"embedding bag": bag, "ours, torch": kernel}
    with torch.no_grad():
        torch.testing.assert_close(kernel(maps), bag(maps), rtol=1e-4, atol=1e-4)
    if grids:
        forms["grid_sample"] = grid_sample
        with torch.no_grad():
            torch.testing.assert_close(kernel(maps), grid_sample(maps), rtol=1e-3, atol=1e-3)
    return {name: method(form) for name, form in forms.items()}


def sampling_grids(
    case: Case, boxes: np.ndarray, images: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """For each image its boxes and the places of their samples; none where sampling adapts."""
    ratio, (height, width) = case.sampling_ratio, case.maps[2:]
    if not ratio:
        return []
    steps = (np.arange(case.size * ratio) + 0.5) / (case.size * ratio)
    found = []
    for image in range(case.maps[0]):
        members = np.flatnonzero(images == image)
        x1, y1, x2, y2 = (boxes[members] * case.scale).T[:, :, None]
        x, y = ((x1 + (x2 - x1) * steps) / width, (y1 + (y2 - y1) * steps) / height)
        shape = (len(members), len(steps), len(steps))
        grid = np.stack(
            [np.broadcast_to(x[:, None], shape), np.broadcast_to(y[:, :, None], shape)], -1
        )
        grid = (2 * grid - 1).reshape(1, -1, len(steps), 2)
        found.append((image, members, grid.astype(np.float32)))
    return found


def jittor_method(case: Case) -> Method:
    """Ours on Jittor, whose memory is always NCHW."""
    rng = np.random.default_rng(0)
    maps = ops.asarray(rng.standard_normal(case.maps, np.float32), backend="jittor")
    shape = (case.boxes, case.maps[1], case.size, case.size)
    gradient = ops.asarray(rng.standard_normal(shape, np.float32), backend="jittor")
    boxes, images = regions(case)
    options = {"scale": case.scale, "sampling_ratio": case.sampling_ratio}
    jt = registry.implementation("jittor").jt
    jt.sync([maps, gradient])

    def run(back: bool) -> None:
        cells = ops.roi_align(maps, boxes, images, case.size, **options)
        if back:
            # The gradient of <cells, gradient>; the product itself is never computed.
            found = jt.grad(cells * gradient, [maps])
            jt.sync([cells, *found], device_sync=True)
        else:
            jt.sync([cells], device_sync=True)

    return run


#: Takes many seconds on large shapes, so it takes part in the first round alone.
SLOW = "grid_sample"


def interleaved(methods: dict[str, Method], rounds: int, back: bool) -> dict[str, np.ndarray]:
    """Milliseconds of each method in each round, after one round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, method in methods.items():
            if name == SLOW and number != 1:
                continue
            as_alone(name)
            start = time.perf_counter()
            method(back)
            if number:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.asarray(values) for name, values in times.items()}


def report(title: str, times: dict[str, np.ndarray]) -> None:
    """One line: medians, and in brackets the ratio to the embedding bag."""
    base = times["embedding bag"]
    cells = [
        f"{name} {np.median(values):7.1f} ms ({np.median(values / base[: len(values)]):4.2f})"
        for name, values in times.items()
    ]
    print(f"{title:40s}" + "   ".join(cells), flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    print(f"medians of {arguments.rounds} rounds, {arguments.threads} threads, ratio to the bag")
    both = len(registry.available()) == 2
    for name in arguments.case:
        for last in (True, False):
            methods = torch_methods(CASES[name], last)
            if both and not last:
                methods["ours, jittor"] = jittor_method(CASES[name])
            for back in (False, True):
                layout = "channels-last" if last else "NCHW"
                title = f"{name}, {layout}, {'forward+backward' if back else 'forward'}"
                report(title, interleaved(methods, arguments.rounds, back))


if __name__ == "__main__":
    main()
