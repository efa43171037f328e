import bz2
import re
import tracemalloc

import pytest

from keras_vitbert.command_line import UserError
from pipelines import wikipedia
from pipelines.wikipedia import Document, read_documents

PROSE = "This is a sentence of prose that has words enough."


def test_only_articles_with_prose_are_read_in_order(write_dump):
    path = write_dump(
        [
            ("Zebra", 0, f"{PROSE}\n\n== More ==\n{PROSE}"),
            ("Talk:Zebra", 1, PROSE),
            ("Zebras", 0, PROSE),
            ("Mercury", 0, f"{PROSE}\n{{{{disambiguation|geo}}}}"),
            ("Mars", 0, f"{PROSE}\n{{{{Human name disambiguation}}}}"),
            ("Venus (disambiguation)", 0, PROSE),
            ("List of nothing", 0, "* one\n* two"),
            ("Apple & pear", 0, f"{PROSE} [[Mars]]{{{{Disambiguation needed|date=May 2016}}}}"),
        ],
        redirects=("Zebras",),
    )
    assert list(read_documents(path)) == [
        Document("Zebra", (PROSE, PROSE)),
        Document("Apple & pear", (f"{PROSE} Mars",)),
    ]


def test_the_dump_is_streamed(write_dump):
    page = f"{PROSE}\n\n" * 200
    path = write_dump([(f"Page {number}", 0, page) for number in range(300)])  # 3 MB of text
    tracemalloc.start()
    try:
        count = sum(1 for _ in wikipedia._articles(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 300
    assert peak < 1.5e6


def test_damaged_files_are_named(tmp_path, write_dump, dump_path):
    with pytest.raises(UserError, match="nowhere.bz2: no such file"):
        list(read_documents(str(tmp_path / "nowhere.bz2")))

    path = tmp_path / "damaged.xml.bz2"
    whole = open(dump_path, "rb").read()
    for content in (
        b"",
        b"<mediawiki></mediawiki>",
        whole[: len(whole) // 20],
        whole[:50_000] + b"damage" + whole[50_006:200_000],
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged.xml.bz2: not a whole .* download it again"):
            list(wikipedia._articles(str(path)))


def test_other_xml_is_not_a_dump(tmp_path):
    path = tmp_path / "other.bz2"
    path.write_bytes(bz2.compress(b"<feed><page/></feed>"))
    with pytest.raises(UserError, match="it begins with <feed>"):
        list(read_documents(str(path)))


def test_articles_of_the_real_dump(real_documents):
    assert len(real_documents) == 97
    assert {"Anarchism", "Alabama", "Albert Einstein", "Algorithm"} <= real_documents.keys()
    for title in ("AccessibleComputing", "Ada", "Animal (disambiguation)", "Aa River"):
        assert title not in real_documents  # a redirect, and disambiguation pages
    assert (
        real_documents["Anarchism"]
        .paragraphs[0]
        .startswith(
            "Anarchism is a political philosophy that advocates self-governed societies based on"
            " voluntary institutions. These are often described as stateless societies, although"
        )
    )


def test_no_markup_is_left_in_the_real_dump(real_documents):
    leftover = re.compile(
        r"''|\[\[|\]\]|\{\{|\}\}|\{\||\|\}|\|-|thumb\||<ref|</|&[a-z]+;|__|https?:|\(\s*\)"
        r"|\([,;]|  |\n|[\x00-\x08\xa0]|Category:|\[\[?File:"
    )
    for document in real_documents.values():
        for paragraph in document.paragraphs:
            found = leftover.search(paragraph)
            assert not found, (document.title, found, paragraph)


@pytest.mark.parametrize(
    "kind, text",
    [
        ("infobox", "MedianHouseholdIncome"),
        ("infobox", "Star blue quartz"),
        ("caption", "The developing skyline of Birmingham in 1915"),
        ("comment", "State game bird"),
        ("heading", "Pre-European settlement"),
        ("list item", "Star Clan of"),
        ("table", "Percentage of population"),
        ("table cell", "French (incl. Patois, Cajun)"),
        ("reference", "Elevations and Distances in the United States"),
        ("hatnote", "Alabama (disambiguation)"),
        ("category", "Category:States of the United States"),
    ],
)
def test_what_is_dropped_from_a_real_article(kind, text, dump_path, real_documents):
    articles = (
        wikitext for title, wikitext in wikipedia._articles(dump_path) if title == "Alabama"
    )
    assert text in next(articles)
    assert not any(text in paragraph for paragraph in real_documents["Alabama"].paragraphs)


def test_prose_of_a_real_article_is_intact(real_documents):
    text = "\n".join(real_documents["Alabama"].paragraphs)
    for sentence in (
        "At 1300 mi, Alabama has one of the longest navigable inland waterways in the nation.",
        "It is bordered by Tennessee to the north, Georgia to the east, Florida and the Gulf of"
        " Mexico to the south, and Mississippi to the west.",
    ):
        assert sentence in text
    assert len(text.split()) > 8000
