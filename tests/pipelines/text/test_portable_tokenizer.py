"""Against the tokenizer of TensorFlow Text, which it stands in for."""

import random
import unicodedata

import pytest
import tensorflow as tf

from pipelines.text import tf_text
from pipelines.text.tokenization import PortableTokenizer, TextEncoder, wordpiece_tokenizer
from pipelines.text.wordpiece import SPECIAL_TOKENS

PIECES = [*"abcdefgsxyz.,[]#é語ß½", "ab", "ff", "mask", "[mask]", "a-b", "##", "##.", "ꮳ", "σ"]
SMALL = (*SPECIAL_TOKENS, *PIECES, *(f"##{piece}" for piece in ("a", "b", "s", "ff", "語", "xx")))
ODD = [
    *("", " ", "\0", "a\0b", "a\tb\r\nc", "\x1c\x85\xa0\u2028\u3000", "a\u200bb\u00adc\ufeff"),
    *("[MASK]", "[mask] [CLS]x", "un[MASK].", "##a", "a##b", "##", "a-b", "$1.00", "x_y", "`~^"),
    *("語語x語", "豈", "\U00020000\U0002f800", "한국어 ㅎㅏㄴ ﾡ", "カﾞガ", "Ⓐ㍿㎏㏇"),
    *("ÉéE\u0301e\u0301\u0302", "a\u0301\u0327\u0323", "ǅǆ", "ﬀﬃﬅ", "½№™ªº²", "ßẞ", "İıſ"),
    *("ΣΑΣ ς", "ᎠᏣꭰꮳ", "\u0345ᾳᾼ", "ด ำ", "भ़ क़", "👩\u200d👧🏽", "\u115f\u1160\u3164", "؀१"),
    *("a" * 100, "a" * 101, "é" * 50, "é" * 51, "語" * 40, "ﬀ" * 50 + " " + "ﬀ" * 51, "ab" * 60),
    *("\U000e0041a\U000e0100", "\u180e\u2066a\u2069", "\U0001d173a", "a\ufffdb", "½" * 40),
]


# TensorFlow Text 2.19 does not know characters of Unicode 13 and 14; Python has no list of those.
BOTH_KNOW = unicodedata.ucd_3_2_0 if tf.__version__.startswith("2.19.") else unicodedata


def fuzz(seed, count):
    """Texts of any assigned characters, and of those that tokenizers treat in their own way."""
    rng = random.Random(seed)
    numbers = (code for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assigned = [chr(c) for c in numbers if BOTH_KNOW.category(chr(c)) not in ("Cn", "Co")]
    special = "abxs .,[]#é語ßﬀ\0\x01\n\u0301MASK"
    for _ in range(count):
        pool = rng.choice((assigned, special))
        yield "".join(rng.choices(pool, k=rng.choice((1, 5, 30, 120))))


def with_every_character(texts):
    """A vocabulary in which each character is a token, so that no difference hides behind [UNK]."""
    forms = {form(c) for form in (str, str.casefold) for text in texts for c in text}
    letters = {c for form in forms for c in form + unicodedata.normalize("NFKD", form).casefold()}
    letters = sorted(c for c in letters if not c.isspace() and unicodedata.category(c)[0] != "C")
    return (*SPECIAL_TOKENS, *letters, *(f"##{c}" for c in letters))


@pytest.mark.parametrize("lower_case", [True, False])
def test_ids_are_those_of_tensorflow_text(lower_case):
    characters = [chr(code) for code in range(0x3400) if BOTH_KNOW.category(chr(code)) != "Cn"]
    texts = [*ODD, *fuzz(int(lower_case), 600), *(f"a{c}b {c}" for c in characters)]
    for vocabulary, some in ((SMALL, texts[:700]), (with_every_character(texts), texts)):
        theirs = wordpiece_tokenizer(vocabulary, lower_case)
        assert not isinstance(theirs, PortableTokenizer)
        ours = PortableTokenizer(vocabulary, lower_case).tokenize(some).to_list()
        for text, a, b in zip(some, ours, theirs.tokenize(some).to_list(), strict=True):
            assert a == b, ascii(text)


def test_bytes_that_are_no_utf_8():
    rng = random.Random(0)
    some = [97, 98, 32, 0xC3, 0xA9, 0xE8, 0xED, 0xA0, 0xF0, 0x9F, 0xFF, 0x80]
    texts = [bytes(rng.choices(some, k=rng.randint(1, 6))) for _ in range(500)]
    vocabulary = (*SMALL, "\ufffd", "##\ufffd")
    ours, theirs = PortableTokenizer(vocabulary), wordpiece_tokenizer(vocabulary)
    assert ours.tokenize(texts).to_list() == theirs.tokenize(texts).to_list()


def test_it_encodes_in_graphs_and_outside(monkeypatch):
    first, second = tf.constant(["a [MASK] ab.", "語s [MASK][MASK]"]), tf.constant(["x", "y z"])

    def encoded():
        wordpiece_tokenizer.cache_clear()
        pairs = tf.data.Dataset.from_tensors((first, second))
        # The tokenizer is made in this graph, and serves outside of it.
        mapped = pairs.map(lambda a, b: TextEncoder(SMALL, 9)(a, b, masks=True))
        encoder = TextEncoder(SMALL, 9)
        found = [*mapped, encoder(first, second, masks=True), encoder(first[:0])]
        return [{name: value.numpy().tolist() for name, value in part.items()} for part in found]

    expected = encoded()
    monkeypatch.setattr(tf_text, "find", lambda module=None: None)  # as if it were not installed
    try:
        assert encoded() == expected
        assert isinstance(wordpiece_tokenizer(SMALL), PortableTokenizer)
    finally:
        wordpiece_tokenizer.cache_clear()
    assert expected[0] == expected[1] != expected[2]
