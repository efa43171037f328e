import pytest

from pipelines.text.documents import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "We stayed in."],
        ['He said "stop."', "Nobody stopped."],
        ["It is old (see below).", "(It was new.)", '"Was it?"'],
        ["Dr. Smith met Mr. Jones on St. James Street, Mt. Vernon, with Gen. Grant."],
        ["J. R. R. Tolkien and A. A. Milne wrote.", "T. S. Eliot read."],
        ["It was made in the U.S.", "The senate agreed."],
        ["See p. 12, fig. 3, vol. II and no. 5, e.g. Siberia, i.e. Russia."],
        ["Élan is French.", "Über is German.", "Ωmega is Greek."],
        [],
    ],
)
def test_sentences(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


def test_nothing_of_real_prose_is_lost(real_documents):
    lengths = []
    for document in real_documents.values():
        for paragraph in document.paragraphs:
            sentences = split_sentences(paragraph)
            assert " ".join(sentences) == paragraph
            lengths.extend(len(sentence.split()) for sentence in sentences)
    assert 20 < sum(lengths) / len(lengths) < 25  # words; English prose
    assert max(lengths) < 200


def test_a_long_paragraph_takes_time_in_proportion():
    """Otherwise a run of stops takes an hour."""
    paragraph = "It rained on Dr. Smith, etc. and on. " * 20_000
    assert len(split_sentences(paragraph.strip())) == 20_000
    assert split_sentences("." * 1_000_000) == ["." * 1_000_000]
