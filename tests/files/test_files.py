"""Reading files of others: text with marks, JSON, values in messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unidet.errors import UserError
from unidet.files.numbers import is_flag, is_id, is_number
from unidet.files.reading import exists, read_json, read_text
from unidet.files.shown import cut, printable, shown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding_and_goes(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("猫\r\ndog".encode(encoding))
    assert read_text(path) == "猫\r\ndog"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe", "is empty"),
        (b"\x80\x81", "no text in UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 5000, "thousands of digits"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path, "Annotation file")
    assert str(caught.value).startswith("Annotation file") and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_never_end_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", tmp_path):
        with pytest.raises(UserError, match="no file"):
            read_text(path)
    for path in ("a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(UserError):
            read_text(path)
        assert not exists(path)


def test_values_are_cut_before_they_are_built() -> None:
    bomb: list[object] = [1, 1]
    for _ in range(60):
        bomb = [bomb] * 10
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (bomb, deep, 10**100_000, "x" * 10**6, {i: i for i in range(10**5)}, b"x" * 9999):
        assert len(shown(value)) <= 120
    assert shown([1, "a", None, 2.5]) == "[1, 'a', None, 2.5]"
    assert shown({"a": 1}) == "{'a': 1}"
    assert shown(list(range(9))) == "[0, 1, 2, 3, ... 9 in all]"
    assert shown(10**400) == "an integer of 1329 bits"
    assert cut("a" * 50 + "b" * 50, 25) == "a" * 10 + " ... " + "b" * 10
    assert printable("a\x1b[2Jb\ud800é") == "a\\x1b[2Jb\\ud800é"


def test_one_rule_says_what_a_number_is() -> None:
    assert all(map(is_id, (0, 1, -1, 2**63 - 1))) and not any(map(is_id, (2**63, True, 1.0, "1")))
    assert all(map(is_number, (0, 1.5, -1, 10**300)))
    assert not any(map(is_number, (10**400, float("nan"), float("inf"), True, "1", None)))
    assert all(map(is_flag, (0, 1, True, False, 1.0)))
    assert not any(map(is_flag, ("0", 2, None, [], -1)))
