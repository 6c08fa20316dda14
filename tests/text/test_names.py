"""Names and templates: what files may hold, and how a name becomes text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unidet.errors import UserError
from unidet.text.names import clean_names, read_names
from unidet.text.templates import TEMPLATES, fill, read_templates


def test_the_templates_of_unidetector() -> None:
    templates = TEMPLATES["unidetector"]
    assert len(templates) == len(set(templates)) == 81
    assert all(template.count("{}") == 1 for template in templates)
    assert templates[:2] == ("{}.", "a photo of a {}.") and templates[-1] == "a tattoo of the {}."
    assert read_templates("single") == ("a photo of a {}.",)
    assert read_templates("plain") == ("{}",)


def test_the_templates_are_those_of_the_golden_texts(sample_data: Path) -> None:
    folder = sample_data / "golden" / "given" / "openai_clip_rn50"
    texts = json.loads((folder / "meta.json").read_text())["strings"]
    made = {fill(template, "teddy bear") for template in TEMPLATES["unidetector"]}
    given = [text for text in texts if "teddy bear" in text]
    assert len(given) == 6 and set(given) <= made


def test_braces_of_a_name_stay() -> None:
    assert fill("a {} of {}", "{x}") == "a {x} of {x}"


def test_templates_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("a {}\n\n  the {} there \n")
    assert read_templates(path) == ("a {}", "the {} there")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a {}\na photo\n", "Received 'a photo' without {}"),
        (b"a {}\na {}\n", "Received 'a {}' twice"),
        (b"\n", "Received none"),
        (b"\xff\xfe", "t.txt"),
    ],
)
def test_bad_templates_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_templates(path)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(UserError, match="Did you mean 'unidetector'"):
        read_templates("unidetectr")


@pytest.mark.parametrize(
    ("cleaning", "expected"),
    [
        ("official", ("Cigar/Cigarette ", "a b_(c)")),
        ("words", ("Cigar/Cigarette ", "a b (c)")),
        ("verbatim", ("Cigar/Cigarette ", "a+b_,(c)")),
    ],
)
def test_names_are_cleaned(cleaning: str, expected: tuple[str, ...]) -> None:
    assert clean_names(("Cigar/Cigarette ", "a+b_,(c)"), cleaning) == expected


def test_bad_cleaning_is_refused() -> None:
    with pytest.raises(UserError, match="`clean`"):
        clean_names(("a",), "clean")
    with pytest.raises(UserError, match="Invalid class name '__'"):
        clean_names(("a", "__"), "words")


def test_categories_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    categories = [{"id": 7, "name": "b "}, {"id": 3, "name": "a_x"}, {"id": 9, "name": "b "}]
    path.write_text(json.dumps({"images": [], "categories": categories}))
    found = read_names(path)
    assert found.names == ("a_x", "b ", "b ") and found.categories
    assert found.repeated() == ("b ",)


def test_names_from_lists(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text("﻿cat\n\n traffic light \r\nnaïve\n", encoding="utf-8")
    assert read_names(path).names == ("cat", "traffic light", "naïve")
    path.write_text('["cat", " dog"]')
    found = read_names(path)
    assert found.names == ("cat", " dog") and not found.categories and not found.repeated()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n \n",
        "[]",
        "{}",
        '{"categories": []}',
        '{"categories": {"1": "cat"}}',
        '{"categories": [{"id": 1}]}',
        '{"categories": [{"id": true, "name": "cat"}]}',
        '{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
        '["cat", 3]',
        '["cat", ""]',
        '["cat", ',
        "[" * 100_000,
    ],
)
def test_bad_names_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "names.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"[Cc]lass names .*names\.json") as caught:
        read_names(path)
    assert "\n" not in str(caught.value)


def test_names_stand_in_the_order_of_published_vectors(sample_data: Path) -> None:
    """A name of one word has one vector, whichever data set it is in."""
    found = {}
    for dataset, path in (
        ("coco", "coco_tiny/annotations/instances_val.json"),
        ("lvis_v0.5", "lvis/lvis_val_100.json"),
    ):
        names = read_names(sample_data / "data" / path).names
        vectors = np.load(
            sample_data / f"data/clip_embeddings/{dataset}_clip_a+cname_rn50_manyprompt.npy"
        )
        assert len(names) == len(vectors) == len(set(names))
        found[dataset] = dict(zip(names, vectors))
    shared = found["coco"].keys() & found["lvis_v0.5"].keys()
    assert len(shared) > 30
    for name in shared:
        np.testing.assert_array_equal(found["coco"][name], found["lvis_v0.5"][name], name)
