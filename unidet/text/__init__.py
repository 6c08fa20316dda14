"""Class names as text: CLIP's tokenizer, templates, and vectors of names."""

from unidet.text.embedding import Embedder, EmbeddingOptions, embed_names
from unidet.text.names import read_names
from unidet.text.templates import TEMPLATES, read_templates
from unidet.text.tokenizer import Tokenizer

__all__ = [
    "TEMPLATES",
    "Embedder",
    "EmbeddingOptions",
    "Tokenizer",
    "embed_names",
    "read_names",
    "read_templates",
]
