import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.text.bert_examples import tokenize_documents
from pipelines.text.documents import Document
from pipelines.text.tokenization import TokenizedDocuments
from pipelines.text.wordpiece import SPECIAL_TOKENS
from pipelines.text.wordpiece import UNKNOWN as UNKNOWN_TOKEN

UNKNOWN = SPECIAL_TOKENS.index(UNKNOWN_TOKEN)
IDS = st.lists(st.integers(0, 30_000), max_size=4)


@given(st.lists(st.lists(IDS, max_size=4), max_size=4))
def test_lists_come_back_without_what_is_empty(documents):
    tokenized = TokenizedDocuments.from_lists(documents)
    full = [[sentence for sentence in document if sentence] for document in documents]
    full = [document for document in full if document]
    assert tokenized.to_lists() == full and len(tokenized) == len(full)
    assert tokenized.tokens.dtype == np.int32
    assert tokenized.tokens.tolist() == sum((s for document in full for s in document), [])


def test_tokenize_documents():
    vocabulary = [*SPECIAL_TOKENS, "the", "cat", "##s", "sat", ".", "é", "The"]
    documents = [
        Document("one", ("The cats sat. The cat sat.", "Cats.")),
        Document("two", ("\x00", " ")),
        Document("three", ("Dogs sat.", "[MASK] the.")),
        Document("", ("The cat. The cat.",), split=True),
    ]
    assert tokenize_documents(documents, vocabulary).to_lists() == [
        [[5, 6, 7, 8, 9], [5, 6, 8, 9], [6, 7, 9]],
        [[UNKNOWN, 8, 9], [UNKNOWN, UNKNOWN, UNKNOWN, 5, 9]],  # a special token is never typed
        [[5, 6, 9, 5, 6, 9]],  # a line of Google's format stays whole
    ]
    assert tokenize_documents(documents[:1], vocabulary, lower_case=False).to_lists() == [
        [[11, 6, 7, 8, 9], [11, 6, 8, 9], [UNKNOWN, 9]]
    ]
    assert tokenize_documents([], vocabulary).to_lists() == []
