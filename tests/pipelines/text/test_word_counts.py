import collections

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.text import wordpiece
from pipelines.text.wordpiece import count_words


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abcdefgh", min_size=1, max_size=2), min_size=1, max_size=40),
       st.integers(2, 12))  # fmt: skip
def test_counts_in_little_memory(words, max_words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordpiece, "_TEXTS_PER_CALL", 1)
        counts = count_words(words, max_words=max_words)
    exact = collections.Counter(words)
    assert len(counts) <= max_words and min(counts.values(), default=1) > 0
    if len(exact) <= max_words:
        assert counts == exact
    too_low = len(words) / (max_words // 2 + 1)
    assert all(exact[word] - too_low <= counts[word] <= exact[word] for word in exact)


def test_common_words_survive_a_flood_of_rare_ones(paragraphs, monkeypatch):
    monkeypatch.setattr(wordpiece, "_TEXTS_PER_CALL", 4)
    few, exact = count_words(paragraphs, max_words=600), count_words(paragraphs)
    assert len(exact) > 4 * 600 > 4 * len(few)
    common = [word for word, _ in exact.most_common(10)]
    assert [word for word, _ in few.most_common(10)] == common
