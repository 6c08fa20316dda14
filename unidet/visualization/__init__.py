"""Pictures of detections and curves of runs."""

from __future__ import annotations

from unidet.data.images import read_image
from unidet.visualization.curves import plot_run, plot_runs
from unidet.visualization.draw import (
    class_colour,
    draw_detections,
    draw_targets,
    write_image,
)
from unidet.visualization.side_by_side import side_by_side

__all__ = [
    "class_colour",
    "draw_detections",
    "draw_targets",
    "plot_run",
    "plot_runs",
    "read_image",
    "side_by_side",
    "write_image",
]
