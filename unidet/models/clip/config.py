"""Arguments of CLIP."""

from __future__ import annotations

from dataclasses import dataclass

from unidet.models.arguments import VISIBLE, Arguments, argument, require
from unidet.models.clip.resnet import LAYERS


@dataclass(frozen=True)
class CLIPConfig(Arguments):
    """Arguments of :class:`unidet.models.clip.CLIP`; the defaults are OpenAI's RN50."""

    embed_dim: int = argument(1024, "length of the features", kind=VISIBLE, least=1)
    vision_layers: tuple[int, ...] = argument(
        LAYERS[50], "blocks in each of the four stages of the ResNet", kind=VISIBLE
    )
    vision_width: int = argument(64, "channels of its stem", kind=VISIBLE, least=1)
    image_resolution: int = argument(
        224, "side of the square images in pixels, a multiple of 32", kind=VISIBLE
    )
    context_length: int = argument(77, "most tokens of a text", kind=VISIBLE, least=1)
    vocab_size: int = argument(49408, "number of tokens", kind=VISIBLE, least=1)
    transformer_width: int = argument(512, "channels of the text tower", kind=VISIBLE, least=1)
    transformer_heads: int = argument(8, "heads of each of its attentions", least=1)
    transformer_layers: int = argument(12, "its blocks", kind=VISIBLE, least=1)

    def check(self) -> None:
        """Sizes fit each other."""
        require(
            len(self.vision_layers) == 4,
            "vision_layers",
            "four counts of blocks",
            self.vision_layers,
        )
        side = self.image_resolution
        require(side >= 32 and side % 32 == 0, "image_resolution", "a multiple of 32", side)
        require(
            self.transformer_width % self.transformer_heads == 0,
            "transformer_heads",
            f"a divisor of {self.transformer_width}",
            self.transformer_heads,
        )
