import pytest

from pipelines.text.documents import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "We stayed in."],
        ["Really?", "Yes!", "1984 was cold."],
        ['He said "stop."', "Nobody stopped."],
        ["It is old (see below).", "(It was new.)", '"Was it?"'],
        ["Dr. Smith met Mr. Jones on St. James Street, Mt. Vernon, with Gen. Grant."],
        ["J. R. R. Tolkien and A. A. Milne wrote.", "T. S. Eliot read."],
        ["Pi is 3.14 and e is 2.72.", "Both are irrational."],
        ["The U.S. Senate met."],
        ["It was made in the U.S.", "The senate agreed."],
        ["See p. 12, fig. 3, vol. II and no. 5, e.g. Siberia, i.e. Russia."],
        ["The answer was no.", "Nobody spoke of art.", "It ended."],
        ["Bread, milk, etc.", "The rest was gone."],
        ["It happened c. 1820 (cf. Miller), vs. England in Gottschalk v. Benson."],
        ["It ended with Linear B.", "The tablets were lost."],
        ["Wait...", "What?"],
        ['They called him "Dr. J."', "Nobody knew why."],
        ["Élan is French.", "Über is German.", "Ωmega is Greek."],
        ["no capital. follows here"],
        ["One"],
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
