import functools
import random
import sys
import unicodedata

import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from pipelines.text.wordpiece import (
    MIN_SIZE,
    SPECIAL_TOKENS,
    UNKNOWN,
    cased_token,
    count_words,
    learn_vocabulary,
    read_vocabulary,
    vocabulary_hash,
    write_vocabulary,
)

SIZE = 500


@pytest.fixture(scope="module")
def tokens(paragraphs):
    return learn_vocabulary(paragraphs, SIZE)


def test_special_tokens_come_first_and_no_token_twice(tokens):
    assert tuple(tokens[:5]) == SPECIAL_TOKENS == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert len(set(tokens)) == len(tokens) == SIZE


def test_common_words_are_whole_and_every_letter_is_there(tokens):
    assert {"the", "of", "and", "alabama", "state", "##s", "##ing"} <= set(tokens)
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789":
        assert {letter, f"##{letter}"} <= set(tokens)


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


def test_words_are_encodable(paragraphs, tokens):
    tokenizer = tf_text.FastBertTokenizer(
        tokens, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
    ids = tokenizer.tokenize(paragraphs).flat_values.numpy()
    assert (ids == tokens.index(UNKNOWN)).mean() < 0.002
    assert 1 < len(ids) / sum(count_words(paragraphs).values()) < 2.5  # tokens a word


def test_the_order_of_the_texts_does_not_matter(some_paragraphs, learned):
    shuffled = random.Random(0).sample(some_paragraphs, len(some_paragraphs))
    assert learn_vocabulary(iter(shuffled), 700) == learned(700)
    # So few words are looked at for a small vocabulary that equally common ones are left out.
    assert learn_vocabulary(shuffled, MIN_SIZE) == learned(MIN_SIZE)


def test_case(some_paragraphs):
    tokens = learn_vocabulary(some_paragraphs, SIZE, lower_case=False)
    assert {"Alabama", "The"} <= set(tokens)
    assert count_words(["Ça, THE."], lower_case=False) == {"Ça": 1, ",": 1, "THE": 1, ".": 1}
    assert count_words(["Ça, THE."]) == {"ca": 1, ",": 1, "the": 1, ".": 1}


def test_a_token_in_upper_case_tells_a_cased_vocabulary(tokens):
    assert cased_token(tokens) is None
    assert cased_token([*SPECIAL_TOKENS, "[unused1]", "[UNUSED]", "ß", "\u13a0", "word"]) is None
    for token in ("##Word", "É", "NATO"):
        assert cased_token([*SPECIAL_TOKENS, "word", token, "The"]) == token


@pytest.mark.slow
def test_what_tensorflow_makes_of_letters_is_not_in_upper_case():
    """Of any letter: a vocabulary of texts in lower case is no cased one."""
    letters = [c for c in map(chr, range(sys.maxunicode)) if unicodedata.category(c)[0] == "L"]
    made = count_words(letters, lower_case=True)
    assert {"a", "\u03b1", "\u13a0"} <= made.keys()
    assert cased_token(list(made)) is None


def test_texts_without_words():
    with pytest.raises(ValueError, match="no words"):
        learn_vocabulary(["", " "], SIZE)


def test_round_trip(tmp_path, tokens):
    path = tmp_path / "vocab.txt"
    path.write_text("old")
    strange = [*tokens, "\u2028", "é", "##\u3000"]
    write_vocabulary(str(path), strange)
    assert read_vocabulary(str(path)) == strange
    assert [entry.name for entry in tmp_path.iterdir()] == ["vocab.txt"]
    assert path.read_text(encoding="utf-8").count("\n") == len(strange)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(FileNotFoundError, match="vocab.txt"):
        read_vocabulary(str(path))
    path.write_text("\n".join([*SPECIAL_TOKENS, "the", "a", "the"]))
    with pytest.raises(ValueError, match=r"vocab.txt: 'the' occurs twice"):
        read_vocabulary(str(path))
    path.write_text("[PAD]\n[UNK]\nthe\n[SEP]\n[CLS]\n")
    with pytest.raises(ValueError, match=r"vocab.txt: \[MASK\] missing"):
        read_vocabulary(str(path))
    path.write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(ValueError, match="vocab.txt"):
        read_vocabulary(str(path))


def test_hash_tells_vocabularies_apart():
    fingerprints = {
        vocabulary_hash(tokens) for tokens in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", "c"])
    }
    assert len(fingerprints) == 4
    assert vocabulary_hash(["a", "b"]) == vocabulary_hash(("a", "b"))
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints)
