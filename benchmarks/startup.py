"""Start-up of the backends: from a new process to the first training steps of RetinaNet-18.

Jittor is measured with an empty cache (``cold``: its core and all kernels are compiled, minutes),
with the cache that this run left (``warm``), and with the kernels that `unidet warmup` compiles
(``after warmup``); ``kernels`` counts those compiled in each process. The recipe is that of
``retinanet_r18_bccd`` with random pictures.

    python benchmarks/startup.py [--skip-cold]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unidet.doctor.jittor import cache_folder, read_cache

RECIPE = "retinanet_r18_bccd"
CLASSES = "model.arguments.num_classes=3"

SCRIPT = f"""
import json, sys, time
start = time.perf_counter()
import numpy as np
from unidet.config import load_config
from unidet.data import DetectionDataset
from unidet.engine import setup
from unidet.engine.stepper import Stepper
from unidet.structures import Targets
config = load_config("{RECIPE}", ["{CLASSES}"])
data = DetectionDataset("random", [], ("a", "b", "c"), (1, 2, 3), [])
model = setup.build_model(config, [data], backend=sys.argv[1], device="cpu", seed=0)
optimizer = setup.build_optimizer(config, model)
stepper = Stepper(model, optimizer, clip_grad_norm=config.train.clip_grad_norm)
draw = np.random.default_rng(0)
batch = model.preprocess.batch([draw.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(4)])
boxes = np.array([[20, 20, 90, 100], [120, 60, 240, 200]], np.float32)
batch.targets[:] = [Targets(boxes, np.array([0, 2]))] * 4
model.train()
ready = time.perf_counter()
steps = []
for _ in range(4):
    begin = time.perf_counter()
    stepper.step([batch], 1.0, lambda values: None)
    steps.append(time.perf_counter() - begin)
print("RESULT", json.dumps({{"import_and_build": ready - start, "steps": steps}}))
"""


def measure(backend: str, home: str | None = None) -> dict[str, float]:
    """Seconds of a fresh process, and the kernels that it compiled."""
    cache = _cache(home)
    before, begin = read_cache(cache).kernels, time.perf_counter()
    done = _run(["-c", SCRIPT, backend], home)
    line = next(x for x in done.splitlines() if "RESULT" in x)
    found = json.loads(line.partition("RESULT")[2])
    steps = found["steps"]
    total = time.perf_counter() - begin
    return {
        "import": found["import_and_build"],
        "first step": steps[0],
        "up to there": found["import_and_build"] + steps[0],
        "second step": steps[1],
        "later step": min(steps[2:]),
        "process": total,
        "kernels": read_cache(cache).kernels - before,
    }


def warm_up(home: str | None) -> str:
    """Throws all kernels away, but not Jittor's core, and compiles those of the recipe ahead.

    Returns:
        The last line of `unidet warmup`: seconds and number of kernels.
    """
    for folder in _cache(home).rglob("jit"):
        for path in folder.iterdir():
            path.unlink()
    done = _run(["-m", "unidet", "warmup", RECIPE, "--set", CLASSES], home)
    return done.splitlines()[-1]


def _cache(home: str | None) -> Path:
    return Path(home, ".cache", "jittor") if home else cache_folder()


def _run(words: list[str], home: str | None) -> str:
    # Jittor reads HOME and writes JITTOR_HOME into it: both, or the real cache is used.
    environment = {**os.environ, **({"HOME": home, "JITTOR_HOME": home} if home else {})}
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-cold", action="store_true", help="only with the cache at hand")
    args = parser.parse_args()
    rows = {"torch": measure("torch")}
    warmed = ""
    if args.skip_cold:
        rows["jittor warm"] = measure("jittor")
    else:
        with tempfile.TemporaryDirectory(prefix="unidet-cold-") as home:
            rows["jittor cold"] = measure("jittor", home)
            rows["jittor warm"] = measure("jittor", home)
            warmed = warm_up(home)
            rows["after warmup"] = measure("jittor", home)
    print(f"{'seconds':14}" + "".join(f"{name:>14}" for name in rows["torch"]))
    for name, row in rows.items():
        *seconds, kernels = row.values()
        print(f"{name:14}" + "".join(f"{value:14.2f}" for value in seconds) + f"{kernels:14d}")
    if warmed:
        print(f"unidet warmup {RECIPE}, with the core compiled: {warmed}")


if __name__ == "__main__":
    main()
