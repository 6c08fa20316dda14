"""CLIP RN50's text tower on CPU: unidet against the same tower written by hand in plain torch.

    python benchmarks/embed.py [--sentences N] [--rounds N]

All sides get the same sentences: one template with many names, as `unidet embed` batches them. By
hand, all 77 positions are computed, as CLIP's own code does; once more, it is cut to the longest
sentence. Needs CLIP's vocabulary (see `unidet embed --help`). Weights are fresh.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from heap import as_alone

from unidet.backends import nn, ops
from unidet.models import create_model
from unidet.text import TEMPLATES, Tokenizer

NAMES = 1203
#: Words to make names of: one to three tokens for most of them, as in LVIS.
FIRST = ("", "wooden ", "fire ", "water ", "baseball ", "alarm ", "coffee ", "soup ", "toy ")
SECOND = (
    *("chair", "bat", "bottle", "clock", "bowl", "hydrant", "truck", "kettle", "spoon", "ladder"),
    *("pitcher", "cabinet", "mug", "machine", "lamp", "basket", "gun", "table", "box", "cup"),
    *("bear", "towel", "mirror", "wheel", "glove"),
)


class Block(torch.nn.Module):
    """A pre-norm block with OpenAI's names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.mlp = torch.nn.ModuleDict(
            {
                "c_fc": torch.nn.Linear(width, 4 * width),
                "c_proj": torch.nn.Linear(4 * width, width),
            }
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Tower(torch.nn.Module):
    """The text tower over all given positions."""

    def __init__(self, width: int = 512, heads: int = 8, layers: int = 12) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(49408, width)
        self.positional_embedding = torch.nn.Parameter(torch.zeros(77, width))
        self.transformer = torch.nn.ModuleDict(
            {"resblocks": torch.nn.ModuleList(Block(width, heads) for _ in range(layers))}
        )
        self.ln_final = torch.nn.LayerNorm(width)
        self.text_projection = torch.nn.Parameter(torch.zeros(width, 1024))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = x.transpose(0, 1)
        for block in self.transformer["resblocks"]:
            x = block(x, mask)
        ends = x.transpose(0, 1)[torch.arange(len(tokens)), tokens.argmax(1)]
        return self.ln_final(ends) @ self.text_projection


def sides(tokens: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Every side with the same weights; each call gives the features."""
    models = {name: create_model("clip_rn50", backend=name) for name in ("torch", "jittor")}
    hand = Tower().eval()
    state = nn.state_arrays(models["torch"])
    hand.load_state_dict({name: torch.from_numpy(state[name]) for name in hand.state_dict()})
    rows = torch.from_numpy(tokens.astype(np.int64))
    longest = int((tokens != 0).sum(axis=1).max())

    def by_hand(length: int) -> Callable[[], np.ndarray]:
        def call() -> np.ndarray:
            with torch.no_grad():
                return hand(rows[:, :length]).numpy()

        return call

    def neutral(name: str) -> Callable[[], np.ndarray]:
        def call() -> np.ndarray:
            with ops.no_grad():
                return ops.to_numpy(models[name].encode_text(tokens))

        return call

    return {
        "torch by hand": by_hand(77),
        "by hand, cut": by_hand(longest),
        "unidet torch": neutral("torch"),
        "unidet jittor": neutral("jittor"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = ["".join(pair) for pair in product(FIRST, SECOND)][: options.sentences]
    tokens = Tokenizer()([f"a photo of the small {name}." for name in names])
    chosen = sides(tokens)
    answers = {name: call() for name, call in chosen.items()}
    scale = np.abs(answers["torch by hand"]).max()
    for name, answer in answers.items():
        difference = np.abs(answer - answers["torch by hand"]).max() / scale
        assert difference < 1e-4, (name, difference)
    times: dict[str, list[float]] = {name: [] for name in chosen}
    order = list(chosen)
    for i in range(options.rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            as_alone(name)
            started = time.perf_counter()
            chosen[name]()
            times[name].append(time.perf_counter() - started)
    print(
        f"text tower of CLIP RN50, {len(names)} sentences of up to "
        f"{(tokens != 0).sum(axis=1).max()} tokens, {torch.get_num_threads()} threads"
    )
    sentences = NAMES * len(TEMPLATES["unidetector"])
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(values, times["torch by hand"]))
        median = statistics.median(values)
        whole = sentences * median / len(names) / 60
        print(
            f"  {name:14} {median * 1e3:8.1f} ms   {ratio:5.2f} of torch by hand"
            f"   {whole:6.1f} min for {NAMES:,} names x {len(TEMPLATES['unidetector'])}"
        )


if __name__ == "__main__":
    main()
