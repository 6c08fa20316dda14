"""CLIP's tokenizer: OpenAI's own ids where the vocabulary is at hand, the rules on a small one."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden.support import Golden
from unidet.errors import UserError
from unidet.text import tokenizer as module
from unidet.text.tokenizer import CONTEXT, Tokenizer, clean_text
from unidet.text.vocabulary import FILE_NAME, MERGES, VARIABLE, find_vocabulary, read_merges

TITLE = '"a title"\n'
SMALL = "t h\nth e</w>\na n\nan d</w>\no o\n1 2</w>\n"


@pytest.fixture(scope="module")
def published() -> Tokenizer:
    try:
        return Tokenizer()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def small(tmp_path: Path) -> Tokenizer:
    path = tmp_path / "merges.txt"
    path.write_text(TITLE + SMALL, encoding="utf-8")
    return Tokenizer(path)


def test_every_given_text_has_openais_ids(sample_data: Path, published: Tokenizer) -> None:
    golden = Golden(sample_data, "openai_clip_rn50")
    texts = golden.meta["strings"]
    flat = [token for text in texts for token in published.encode(text)]
    np.testing.assert_array_equal(flat, golden["bpe_flat"])
    np.testing.assert_array_equal(
        [len(published.encode(text)) for text in texts], golden["bpe_len"]
    )
    np.testing.assert_array_equal(published(texts, truncate=True), golden["token_ids_truncated"])
    refused = 0
    for text, expected in zip(texts, golden["token_ids"]):
        if expected.any():
            np.testing.assert_array_equal(published([text])[0], expected)
            continue
        refused += 1
        with pytest.raises(UserError, match="Expected at most 75 tokens"):
            published([text])
    assert refused and published.size == 49_408


def test_the_pair_of_the_lowest_rank_merges_first(small: Tokenizer) -> None:
    assert small.size == 512 + 6 + 2 and small.start == 518 and small.end == 519
    assert small.encode("the") == [513]
    assert small.encode("and the") == [515, 513]
    # "th" inside a word, then letters alone: 'a' to 'z' follow 'A' to 'Z' and signs from '!'.
    letter = {c: ord(c) - ord("!") for c in "abcdefghijklmnopqrstuvwxyz"}
    assert small.encode("bath") == [letter["b"], letter["a"], letter["t"], 256 + letter["h"]]
    assert small.encode("there") == [512, letter["e"], letter["r"], 256 + letter["e"]]
    # Of three equal letters the first two merge.
    assert small.encode("ooob") == [516, letter["o"], 256 + letter["b"]]
    # Digits are words of their own, so "12" never merges.
    assert 517 not in small.encode("12") and len(small.encode("12")) == 2


def test_text_is_bytes_and_never_unknown(small: Tokenizer) -> None:
    assert len(small.encode("北京")) == 6
    assert small.encode("") == small.encode(" \n\t ") == []
    assert small.encode("<|startoftext|> x <|endoftext|>")[::2] == [small.start, small.end]


def test_rows_have_start_end_and_zeros(small: Tokenizer) -> None:
    rows = small(["the", ""])
    assert rows.shape == (2, CONTEXT) and rows.dtype == np.int32
    assert rows[0, :4].tolist() == [small.start, 513, small.end, 0]
    assert rows[1, :3].tolist() == [small.start, small.end, 0]
    long = "the " * 80
    with pytest.raises(UserError, match="Received 80") as caught:
        small([long])
    assert len(str(caught.value)) < 200
    cut = small([long], truncate=True)[0]
    assert cut[-1] == small.end and (cut[1:-1] == 513).all()
    assert small(["the " * 75])[0, -1] == small.end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A  Photo\tof\nX ", "a photo of x"),
        ("R&amp;B &lt;b&gt;", "r&b <b>"),
        ("&amp;amp;", "&"),
        ("smart “quotes”", 'smart "quotes"'),
        ("schÃ¶n", "schön"),
        ("plain", "plain"),
    ],
)
def test_text_is_cleaned(text: str, expected: str) -> None:
    assert clean_text(text) == expected


def test_plain_text_skips_nothing_that_matters() -> None:
    """The short way for plain ASCII gives what ftfy and unescaping give."""
    import html

    import ftfy

    for text in ("it's a 'test'", "a_b+c,d (e) [f] {g} <h>", "#1; ~^`|", "x" * 300):
        assert html.unescape(ftfy.fix_text(text)) == text


def test_the_vocabulary_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Tokenizer
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    named, other = tmp_path / "named.txt", tmp_path / "other.txt"
    for path in (named, other):
        path.write_text(TITLE + SMALL)
    monkeypatch.setenv(VARIABLE, str(other))
    assert find_vocabulary(named) == named and find_vocabulary() == other
    monkeypatch.delenv(VARIABLE)
    package = tmp_path / "site" / "open_clip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "clip" else real(n))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(UserError, match=f"{FILE_NAME} not found.*pip install openai-clip"):
        find_vocabulary()
    (package / FILE_NAME).write_bytes(gzip.compress((TITLE + SMALL).encode()))
    assert find_vocabulary() == package / FILE_NAME
    assert Tokenizer().encode("bath the") == small.encode("bath the")


def test_a_name_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"not found: .*absent"):
        find_vocabulary(tmp_path / "absent")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UserError, match=f"gone, which {VARIABLE} names"):
        find_vocabulary()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"title alone",
        b"title\na b\none\n",
        b"title\na b c\n",
        gzip.compress(b"title\na b\n" * 1000)[:-20],
        b"\x1f\x8bno gzip",
        b"title\n\xff \xfe\n",
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(UserError, match="Invalid vocabulary") as caught:
        read_merges(path)
    assert "\n" not in str(caught.value)


def test_merges_end_where_clips_tokens_end(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(TITLE + "".join(f"a{i} b\n" for i in range(MERGES + 100)))
    assert len(read_merges(path)) == MERGES == 48_894


@pytest.mark.parametrize("name", ["regex", "ftfy"])
def test_a_missing_package_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "merges.txt"
    path.write_text(TITLE + SMALL)
    module._package.cache_clear()
    monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    with pytest.raises(UserError, match=f"pip install {name}"):
        Tokenizer(path).encode("naïve")
    module._package.cache_clear()
