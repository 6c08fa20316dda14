"""Prompt templates: sentences with a place for a class name. A file of the user works too."""

from __future__ import annotations

from pathlib import Path

from unidet.errors import UserError, suggestion
from unidet.files.reading import is_file, read_text

#: What stands for the name.
BLANK = "{}"

#: UniDetector's (Wang et al. 2023) in its order: OpenAI's 80 for ImageNet and the name alone.
UNIDETECTOR = (
    "{}.",
    "a photo of a {}.",
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

#: Sets by name.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "unidetector": UNIDETECTOR,
    "single": ("a photo of a {}.",),
    "plain": ("{}",),
}


def fill(template: str, name: str) -> str:
    """The template with the name in place of ``{}``; braces of the name stay."""
    return template.replace(BLANK, name)


def read_templates(source: str | Path) -> tuple[str, ...]:
    """Templates of a named set or of a text file.

    Args:
        source: a key of ``TEMPLATES``, or a file with one template a line; empty lines pass.

    Raises:
        UserError: neither, or a line without ``{}``.
    """
    if str(source) in TEMPLATES:
        return TEMPLATES[str(source)]
    if not is_file(source):
        raise UserError(
            f"Invalid value for `templates`. Expected one of {', '.join(TEMPLATES)}, or a file. "
            f"Received {str(source)!r}.{suggestion(str(source), TEMPLATES)}"
        )
    lines = read_text(source, "File of templates").splitlines()
    found = tuple(line.strip() for line in lines if line.strip())
    check_templates(found, str(source))
    return found


def check_templates(templates: tuple[str, ...], origin: str) -> None:
    """Refuses an empty set, and a template that has no place for the name or stands there twice.

    Raises:
        UserError: names ``origin`` and the template.
    """
    if not templates:
        raise UserError(f"Invalid templates {origin}. Expected one a line. Received none.")
    for number, template in enumerate(templates):
        problem = "twice" if template in templates[:number] else "without {}"
        if problem == "twice" or BLANK not in template:
            raise UserError(
                f"Invalid templates {origin}. Expected different sentences with {{}} for the name. "
                f"Received {template!r} {problem}."
            )
