import functools
import random

import pytest

from pipelines.text.wordpiece import (
    MIN_SIZE,
    SPECIAL_TOKENS,
    cased_token,
    count_words,
    learn_vocabulary,
    read_vocabulary,
    write_vocabulary,
)


@pytest.fixture(scope="module")
def some_paragraphs(paragraphs):
    """As many as a small vocabulary needs."""
    return paragraphs[:40]


@pytest.fixture(scope="module")
def learned(some_paragraphs):
    """`learned(size) -> tokens` of them, each once."""
    return functools.cache(lambda size: learn_vocabulary(some_paragraphs, size))


@pytest.mark.parametrize("size", [MIN_SIZE, 700, 100_000])
def test_size_is_kept(size, learned):
    tokens = learned(size)
    assert len(set(tokens)) == len(tokens) <= size
    assert size == 100_000 or len(tokens) == size


def test_the_order_of_the_texts_does_not_matter(some_paragraphs, learned):
    shuffled = random.Random(0).sample(some_paragraphs, len(some_paragraphs))
    assert learn_vocabulary(iter(shuffled), 700) == learned(700)
    # So few words are looked at for a small vocabulary that equally common ones are left out.
    assert learn_vocabulary(shuffled, MIN_SIZE) == learned(MIN_SIZE)


def test_case(some_paragraphs, learned):
    tokens = learn_vocabulary(some_paragraphs[:9], 300, lower_case=False)
    assert {"Alabama", "The"} <= set(tokens)
    assert count_words(["Ça, THE."], lower_case=False) == {"Ça": 1, ",": 1, "THE": 1, ".": 1}
    assert count_words(["Ça, THE."]) == {"ca": 1, ",": 1, "the": 1, ".": 1}


def test_a_token_in_upper_case_tells_a_cased_vocabulary(learned):
    assert cased_token(learned(700)) is None
    assert cased_token([*SPECIAL_TOKENS, "[unused1]", "[UNUSED]", "ß", "\u13a0", "word"]) is None
    for token in ("##Word", "É", "NATO"):
        assert cased_token([*SPECIAL_TOKENS, "word", token, "The"]) == token


def test_round_trip(tmp_path):
    strange = [*SPECIAL_TOKENS, "a", "\u2028", "é", "##\u3000"]
    write_vocabulary(str(tmp_path / "vocab.txt"), strange)
    assert read_vocabulary(str(tmp_path / "vocab.txt")) == strange


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("\n".join([*SPECIAL_TOKENS, "the", "a", "the"]).encode(), ": 'the' occurs twice"),
        (b"[PAD]\n[UNK]\nthe\n[SEP]\n[CLS]\n", r": \[MASK\] missing"),
        (b"[PAD]\n\xff\xfe\n", ""),
    ],
)
def test_bad_files_are_named(tmp_path, content, culprit):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"vocab.txt{culprit}"):
        read_vocabulary(str(tmp_path / "vocab.txt"))
