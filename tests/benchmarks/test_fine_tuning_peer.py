import numpy as np

from benchmarks.fine_tuning_peer import LENGTHS, sentences_like_sst2


def test_sentences_have_the_lengths_of_sst2():
    texts = ["one two, three four five. six seven"] * 100
    sentences = sentences_like_sst2(texts, 2_000)
    lengths = [len(sentence.split()) for sentence in sentences]
    assert max(lengths) <= LENGTHS[-1] and min(lengths) >= LENGTHS[0]
    found = np.percentile(lengths, [10, 30, 50, 70, 90])
    np.testing.assert_allclose(found, LENGTHS[1:-1:2], atol=1)
    assert sentences == sentences_like_sst2(texts, 2_000)
    assert sentences != sentences_like_sst2(texts, 2_000, seed=1)
