"""Models on the backend "numpy" have the names and shapes of the real ones and nothing else."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from unidet.backends import nn
from unidet.backends.registry import backend_of
from unidet.detector import Detector
from unidet.models import MODELS, create_model

#: One of each kind of network, small where its arguments allow it.
KINDS = [name for name in MODELS if "r18" in name or name.startswith(("clip", "unidet", "resnet"))]
KINDS += ["faster_rcnn_r50_c4", "detr_r50_dc5", "faster_rcnn_r50_fpn_torchvision_v2"]


@pytest.mark.parametrize("name", KINDS)
def test_names_and_shapes_are_those_of_the_model(name: str, backend: str) -> None:
    real = create_model(name, backend=backend, seed=None)
    shapes = create_model(name, backend="numpy")
    assert nn.shapes(shapes) == nn.shapes(real)
    assert list(nn.parameters(shapes)) == list(nn.parameters(real))
    assert list(nn.trainable(shapes)) == list(nn.trainable(real))
    assert shapes.config == real.config and backend_of(shapes) == "numpy"


def test_shapes_take_no_memory_and_no_framework() -> None:
    program = (
        "import sys, tracemalloc; from unidet.models import create_model; tracemalloc.start();"
        "create_model('retinanet_r152_fpn', backend='numpy');"
        "assert tracemalloc.get_traced_memory()[1] < 20e6;"
        "print([n for n in ('torch', 'jittor') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr


def test_a_model_of_shapes_says_that_it_computes_nothing() -> None:
    model = create_model("retinanet_r18_fpn", backend="numpy")
    with pytest.raises(TypeError, match="shapes alone"):
        model(np.zeros((1, 3, 64, 64), np.float32))
    with pytest.raises(ValueError, match="torch, jittor"):
        Detector("nowhere.safetensors", backend="numpy")
