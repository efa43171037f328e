import tensorflow as tf

from pipelines.text.documents import Document
from pipelines.text.tokenization import TextEncoder, tokenize_documents
from pipelines.text.wordpiece import SPECIAL_TOKENS
from pipelines.text.wordpiece import UNKNOWN as UNKNOWN_TOKEN
from tests.pipelines.text.token_lists import as_lists

UNKNOWN = SPECIAL_TOKENS.index(UNKNOWN_TOKEN)


def test_tokenize_documents():
    vocabulary = [*SPECIAL_TOKENS, "the", "cat", "##s", "sat", ".", "é", "The"]
    documents = [
        Document("one", ("The cats sat. The cat sat.", "Cats.")),
        Document("two", ("\x00", " ")),
        Document("three", ("Dogs sat.", "[MASK] the.")),
        Document("", ("The cat. The cat.",), split=True),
    ]
    assert as_lists(tokenize_documents(documents, vocabulary)) == [
        [[5, 6, 7, 8, 9], [5, 6, 8, 9], [6, 7, 9]],
        [[UNKNOWN, 8, 9], [UNKNOWN, UNKNOWN, UNKNOWN, 5, 9]],  # a special token is never typed
        [[5, 6, 9, 5, 6, 9]],  # a line of Google's format stays whole
    ]
    assert as_lists(tokenize_documents(documents[:1], vocabulary, lower_case=False)) == [
        [[11, 6, 7, 8, 9], [11, 6, 8, 9], [UNKNOWN, 9]]
    ]
    assert as_lists(tokenize_documents([], vocabulary)) == []


def test_masks_are_tokens_where_they_are_meant():
    vocabulary = [*SPECIAL_TOKENS, "the", "sat", "un", ".", "[", "]", "mask"]
    the, sat, un, stop, left, right, word = range(5, 12)
    encoder, mask = TextEncoder(vocabulary, 12), SPECIAL_TOKENS.index("[MASK]")
    texts = tf.constant(["the [MASK] sat", "[MASK][MASK]", "un[MASK].", "", "[mask]"])
    expected = [[the, mask, sat], [mask, mask], [un, mask, stop], [], [left, word, right]]
    assert encoder.tokenize(texts, masks=True).to_list() == expected
    assert encoder.tokenize(texts)[0].numpy().tolist() == [the, left, word, right, sat]
    assert encoder(texts, masks=True)["token_ids"][1].numpy().tolist()[:4] == [2, mask, mask, 3]
