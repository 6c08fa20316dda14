"""Start-up of the backends: import, first and third training step of RetinaNet-18.

``cold`` gives Jittor an empty cache (minutes), ``warm`` the cache that the cold run left.

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

SCRIPT = """
import json, sys, time
start = time.perf_counter()
import numpy as np
import unidet
from unidet.backends import ops, optim
from unidet.structures import Targets
backend = sys.argv[1]
model = unidet.create_model("retinanet_r18_fpn", backend=backend, num_classes=3, fpn_channels=96)
ready = time.perf_counter()
optimizer = optim.create("sgd", model, lr=1e-5, momentum=0.9)
model.train()
images = np.random.default_rng(0).normal(size=(4, 3, 240, 320)).astype(np.float32)
boxes = np.array([[20, 20, 90, 100], [120, 60, 240, 200]], np.float32)
goals = [Targets(boxes, np.array([0, 2]))] * 4
steps = []
for _ in range(4):
    begin = time.perf_counter()
    losses = model.losses(model(ops.asarray(images, backend=backend)), goals)
    total = losses["loss_cls"] + losses["loss_box"]
    optimizer.zero_grad(); optimizer.backward(total); optimizer.step(); ops.item(total)
    steps.append(time.perf_counter() - begin)
print("RESULT", json.dumps({"import_and_build": ready - start, "steps": steps}))
"""


def measure(backend: str, home: str | None = None) -> dict[str, float]:
    """Seconds of a fresh process."""
    # Jittor reads HOME and writes JITTOR_HOME into it: both, or the real cache is used.
    environment = {**os.environ, **({"HOME": home, "JITTOR_HOME": home} if home else {})}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(x for x in done.stdout.splitlines() if "RESULT" in x)
    found = json.loads(line.partition("RESULT")[2])
    steps = found["steps"]
    return {
        "import": found["import_and_build"],
        "first step": steps[0],
        "second step": steps[1],
        "later step": min(steps[2:]),
        "process": time.perf_counter() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-cold", action="store_true", help="only with the cache at hand")
    args = parser.parse_args()
    rows = {"torch": measure("torch")}
    if args.skip_cold:
        rows["jittor warm"] = measure("jittor")
    else:
        with tempfile.TemporaryDirectory(prefix="unidet-cold-") as home:
            rows["jittor cold"] = measure("jittor", home)
            rows["jittor warm"] = measure("jittor", home)
    print(f"{'seconds':14}" + "".join(f"{name:>14}" for name in rows["torch"]))
    for name, row in rows.items():
        print(f"{name:14}" + "".join(f"{value:14.2f}" for value in row.values()))


if __name__ == "__main__":
    main()
