import collections
import random

import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vitbert import command_line
from keras_vitbert.command_line import UserError
from pipelines import vocabulary, word_counts
from pipelines.documents import Document, Part, Unit, to_json
from pipelines.vocabulary import (
    MIN_SIZE,
    SPECIAL_TOKENS,
    UNKNOWN,
    count_words,
    learn_vocabulary,
    read_vocabulary,
    spread,
    vocabulary_hash,
    write_vocabulary,
)

SIZE = 500


@pytest.fixture(scope="module")
def texts(real_documents):
    return list(real_documents["Alabama"].paragraphs)


@pytest.fixture(scope="module")
def tokens(texts):
    return learn_vocabulary(texts, SIZE)


def test_special_tokens_come_first_and_no_token_twice(tokens):
    assert tuple(tokens[:5]) == SPECIAL_TOKENS == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert len(set(tokens)) == len(tokens) == SIZE


def test_common_words_are_whole_and_every_letter_is_there(tokens):
    assert {"the", "of", "and", "alabama", "state", "##s", "##ing"} <= set(tokens)
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789":
        assert {letter, f"##{letter}"} <= set(tokens)


@pytest.mark.parametrize("size", [MIN_SIZE, 700, 100_000])
def test_size_is_kept(size, texts):
    tokens = learn_vocabulary(texts[:40], size)
    assert len(set(tokens)) == len(tokens) <= size
    assert size == 100_000 or len(tokens) == size


def test_words_are_encodable(texts, tokens):
    tokenizer = tf_text.FastBertTokenizer(
        tokens, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
    ids = tokenizer.tokenize(texts).flat_values.numpy()
    assert (ids == tokens.index(UNKNOWN)).mean() < 0.002
    assert 1 < len(ids) / sum(count_words(texts).values()) < 2.5  # tokens a word


def test_the_order_of_the_texts_does_not_matter(texts, tokens):
    shuffled = random.Random(0).sample(texts, len(texts))
    assert learn_vocabulary(iter(shuffled), SIZE) == tokens
    # So few words are looked at for a small vocabulary that equally common ones are left out.
    assert learn_vocabulary(shuffled, MIN_SIZE) == learn_vocabulary(texts, MIN_SIZE)


def test_case(texts):
    tokens = learn_vocabulary(texts, SIZE, lower_case=False)
    assert {"Alabama", "The"} <= set(tokens)
    assert count_words(["Ça, THE."], lower_case=False) == {"Ça": 1, ",": 1, "THE": 1, ".": 1}
    assert count_words(["Ça, THE."]) == {"ca": 1, ",": 1, "the": 1, ".": 1}


def test_bad_requests(texts):
    with pytest.raises(UserError, match="too small"):
        learn_vocabulary(texts, MIN_SIZE - 1)
    with pytest.raises(UserError, match="no words"):
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
    with pytest.raises(UserError, match=r"vocab.txt: no such vocabulary"):
        read_vocabulary(str(path))
    path.write_text("\n".join([*SPECIAL_TOKENS, "the", "a", "the"]))
    with pytest.raises(UserError, match=r"vocab.txt: 'the' is there twice"):
        read_vocabulary(str(path))
    path.write_text("[PAD]\n[UNK]\nthe\n[SEP]\n[CLS]\n")
    with pytest.raises(UserError, match=r"vocab.txt: \[MASK\] missing"):
        read_vocabulary(str(path))
    path.write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"vocab.txt: cannot be read"):
        read_vocabulary(str(path))


def test_hash_tells_vocabularies_apart():
    fingerprints = {
        vocabulary_hash(tokens) for tokens in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", "c"])
    }
    assert len(fingerprints) == 4
    assert vocabulary_hash(["a", "b"]) == vocabulary_hash(("a", "b"))
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=2), min_size=1, max_size=60),
       st.integers(2, 12))  # fmt: skip
def test_counts_in_little_memory(words, max_words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_counts, "_TEXTS_PER_CALL", 1)
        counts = count_words(words, max_words=max_words)
    exact = collections.Counter(words)
    assert len(counts) <= max_words and min(counts.values(), default=1) > 0
    if len(exact) <= max_words:
        assert counts == exact
    too_low = len(words) / (max_words // 2 + 1)
    assert all(exact[word] - too_low <= counts[word] <= exact[word] for word in exact)


def test_common_words_survive_a_flood_of_rare_ones(texts, monkeypatch):
    monkeypatch.setattr(word_counts, "_TEXTS_PER_CALL", 4)
    few, exact = count_words(texts, max_words=600), count_words(texts)
    assert len(exact) > 4 * 600 > 4 * len(few)
    common = [word for word, _ in exact.most_common(10)]
    assert [word for word, _ in few.most_common(10)] == common


def test_spread():
    units = tuple(Unit((Part("file", 10 * n, 10 * n + 10),)) for n in range(100))
    assert spread(units, 0) == spread(units, 1000) == spread(units, 10**9) == units
    assert spread(units, 1) == (units[50],)
    for wanted in (20, 70, 330, 500, 990):
        chosen = [units.index(unit) for unit in spread(units, wanted)]
        assert len(chosen) == wanted // 10
        gaps = [b - a for a, b in zip([-1, *chosen], [*chosen, 100], strict=True)]
        assert min(gaps) >= 1 and max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1
        assert max(gaps[0], gaps[-1]) <= 1 + 100 / len(chosen)


@pytest.fixture
def corpus(tmp_path, texts):
    (tmp_path / "docs").write_bytes(to_json(Document("", tuple(texts))) + b"\n")
    return tmp_path


def command(folder, *flags):
    argv = [f"--documents={folder}/docs", f"--output={folder}/new/vocab.txt", "--size=500", *flags]
    return command_line.run(vocabulary.main, argv)


def test_command(corpus, tokens, texts, capfd):
    path = corpus / "new" / "vocab.txt"
    assert command(corpus) == 0
    assert read_vocabulary(str(path)) == tokens
    err = capfd.readouterr().err
    assert "vocabulary: 500 tokens" in err and "MB a second" in err

    assert command(corpus, "--size=300", "--cased") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "is there already" in err and "--overwrite" in err
    assert read_vocabulary(str(path)) == tokens
    assert command(corpus, "--size=300", "--cased", "--overwrite") == 0
    assert read_vocabulary(str(path)) == learn_vocabulary(texts, 300, lower_case=False)
    assert [entry.name for entry in path.parent.iterdir()] == ["vocab.txt"]


def test_command_names_what_is_bad(corpus, capfd):
    def refused(*flags):
        assert command(corpus, *flags) == 2
        out, err = capfd.readouterr()
        assert not out and err.count("\n") == 1
        return err

    assert "no file matches" in refused(f"--documents={corpus}/none")
    assert "--size" in refused("--size=99")
    assert "--output is missing" in refused("--output=")
    assert "cannot be written to" in refused("--output=/proc/nowhere/vocab.txt")
    with open(corpus / "docs", "ab") as file:
        file.write(b"{]\n")
    assert "docs: the line at byte" in refused()
    assert not list((corpus / "new").iterdir())
    assert command(corpus, "--max_bad_records=1", "--size=100") == 0
    capfd.readouterr()
    (corpus / "docs").write_bytes(to_json(Document("", ("a b",))))
    assert command(corpus, "--overwrite") == 0
    assert "the text has no more" in capfd.readouterr().err
