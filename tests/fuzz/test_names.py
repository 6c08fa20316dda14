"""Files of class names, and file names of any text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.harness import bounded, fuzz
from tests.fuzz.mutations import STRANGE, mutated_bytes
from unidet.data.file_names import find_image, output_names
from unidet.text.names import read_names

SEEDS = (
    b"cat\ntraffic light\n",
    b'\xef\xbb\xbf["cat", "dog"]',
    b'{"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}',
    "cat\ndog\n".encode("utf-16"),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from([value for value in STRANGE if isinstance(value, str)]),
    st.lists(
        st.sampled_from(["a", "..", ".", "", "C:", "http:", "%2e%2e", "\\", "/", "\0", "é"]),
        max_size=12,
    ).map("/".join),
)


@fuzz(mutated_bytes(*SEEDS))
def test_files_of_names(case: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_bytes(case)
    with bounded():
        read_names(path)


@fuzz(TEXTS)
def test_file_names(case: str, tmp_path: Path) -> None:
    with bounded():
        find_image(tmp_path, case)
        made = output_names([case, case, "a.jpg"])
        assert len(set(made)) == 3
        assert all(not p.startswith("/") and ".." not in p.split("/") for p in made)
        assert not any("\0" in p for p in made)
