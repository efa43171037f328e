import re
import time

import pytest

from pipelines.prepare import wikitext
from pipelines.prepare.wikipedia import read_pages
from pipelines.prepare.wikitext import MIN_WORDS, passages

PROSE = "This is a sentence of prose that has words enough."


def test_links_entities_and_quotes_become_plain_text():
    assert passages(
        "'''Oil''' is a [[Pigment|kind]] of [[paint]] &ndash; or &amp;ndash; sold at"
        " [http://x.org a shop] in ''Paris'', not in [[:Category:Rome]] [http://y.org]."
    ) == ["Oil is a kind of paint – or – sold at a shop in Paris, not in Category:Rome."]


@pytest.mark.parametrize(
    "markup",
    [
        "{{Infobox country\n| name = Atlantis\n| motto = {{lang|la|One, two, three.}}\n}}",
        '{| class="wikitable"\n|+ A caption of the table. With two sentences in it, even.\n'
        "|-\n! Head !! Other\n|-\n| A cell that holds a whole sentence, long enough. || 2\n|}",
        "* An item that holds a whole sentence and is long enough.\n"
        "# Another item that holds a whole sentence and is long enough.\n"
        ": An indented line that holds a whole sentence and is long enough.\n"
        "; A term that holds a whole sentence and is long enough.",
        "== A heading that looks like a sentence and is long enough. ==",
        "[[File:A.jpg|thumb|A caption with a [[link]] in it, and words enough. Two sentences.]]",
        "[[Image:A.jpg|A caption that holds a whole sentence, and is long enough.]]",
        "[[Category:People who never lived at all, or hardly.]]\n[[fr:Les gens]]",
        "<gallery>\nFile:A.jpg|A caption that holds a sentence and is long enough.\n</gallery>",
        "<!-- A comment that holds a whole sentence and is long enough. -->",
        "<table><tr><td>A cell that holds a whole sentence and is long enough.</td></tr></table>",
        " A preformatted line that holds a whole sentence and is long enough.",
        "<syntaxhighlight>print('A sentence that is long enough, in code.')</syntaxhighlight>",
        "The number <math>x^2</math> is in a sentence that would be broken without it.",
        "The number {{mvar|x}} is in a sentence that would be broken without it.",
        "Too short.",
        "No end to this line of words, however long it is",
        "where the sentence goes on that began before a formula and a blank line.",
    ],
)
def test_what_is_not_prose_is_dropped_and_its_neighbours_stay(markup):
    assert passages(f"{PROSE}\n\n{markup}\n\n{PROSE} Again.") == [PROSE, f"{PROSE} Again."]


def test_references_and_templates_leave_no_trace_in_a_sentence():
    assert passages(
        "Anna ({{IPA|anna}}; {{lang-el|a}}, born 1900{{cn}}) painted<ref>A note. With words.</ref>"
        " many walls ( ) and doors (,) in her life<ref name=x/>, too."
    ) == ["Anna (born 1900) painted many walls and doors in her life, too."]


def test_templates_that_hold_words_of_the_sentence_are_read():
    assert passages(
        "It is {{convert|98|mi|km|0}} long, {{convert|1|-|4|km2}} wide, {{convert|5|ft|8|in|cm}}"
        " deep, {{nowrap|very [[old]]}} and called ''{{lang|la|Mare}}''{{'s}} daughter."
    ) == ["It is 98 mi long, 1 - 4 km2 wide, 5 ft 8 in deep, very old and called Mare's daughter."]


@pytest.mark.parametrize(
    "markup, text",
    [
        (
            "the {{USS|Hornet|CV-12|6}} and the {{HMS|''Beagle''}}",
            "the USS Hornet and the HMS Beagle",
        ),
        ("for {{US$|2 billion}} or {{£|5}}", "for US$2 billion or £5"),
        ("in {{circa|1900}} or {{c.|1910|1912}}", "in c. 1900 or c. 1910–1912"),
        ("{{as of|2008|7|lc=y}}, and {{As of|2009}} too", "as of 2008, and As of 2009 too"),
        ("by {{US patent|1781541}}", "by U.S. Patent 1781541"),
        ("on {{OldStyleDate|February 2|1905|January 20}}", "on February 2, 1905"),
        ("on {{OldStyleDate|2 February|1905|20 January}}", "on 2 February 1905"),
        ("to {{sic|recieve}} it{{sic}}", "to recieve it"),
    ],
)
def test_templates_with_words_of_their_own(markup, text):
    assert passages(f"It was seen by many people {markup}.") == [
        f"It was seen by many people {text}."
    ]


def test_doubled_punctuation_around_a_template_is_fixed():
    assert passages(
        "They sailed to the ship, {{IPA|x}}. One (Pashto/Dari: {{IPA|y}}, ''Ship'') was there;"
        " {{IPA|z}}, and left."
    ) == ["They sailed to the ship. One (Pashto/Dari, Ship) was there, and left."]


def test_a_formula_in_parentheses_is_left_out_with_them():
    assert passages(
        "It cost five dollars (${{Inflation|US|5|1929}} in {{CURRENTYEAR}} dollars) and was small"
        " (near <math>x</math>), they say."
    ) == ["It cost five dollars and was small, they say."]
    assert passages("It cost five dollars (or six), or ${{Inflation|US|5|1929}} in a year.") == []
    assert passages("The function f(<math>x</math>) is one of those that nobody knows well.") == []


@pytest.mark.parametrize(
    "markup, text",
    [
        ("wall<ref>{{cite book|title=[[A]] {{nowrap|b}}\n\n* c}}</ref>", "wall"),
        ("wall<REF name='a b' />", "wall"),
        ("wall<ref name=x>A.</ref > and<ref\nname=y>B</ref> door", "wall and door"),
        ("wall<references>\n<ref name=a>A.</ref>\n</references>", "wall"),
        ("wall{{a|{{b|{{c}}|{{nowrap|d}}}}}} {{nowrap|or {{e}}door}}", "wall or door"),
        ("wall<!-- <ref> --> or door<ref>A</ref>", "wall or door"),
    ],
)
def test_what_is_stripped_before_parsing(markup, text):
    assert passages(f"It was painted by her on a {markup}.") == [
        f"It was painted by her on a {text}."
    ]


def test_a_reference_without_an_end_tag_keeps_the_paragraphs_up_to_the_next_one():
    assert passages(
        f"{PROSE}<ref>Note.\n\n{PROSE}\n\nThe next<ref>A</ref> one is here, and it is long enough."
    ) == [PROSE, PROSE, "The next one is here, and it is long enough."]


def test_possessives_of_italics_keep_their_apostrophe():
    assert passages("The end of ''Animal Farm'''s first edition was not the end of it.") == [
        "The end of Animal Farm's first edition was not the end of it."
    ]


def test_quotations_are_paragraphs_of_their_own():
    assert passages(
        f"He said:\n{{{{quote|{PROSE}|The author}}}}\n<blockquote>{PROSE}</blockquote>"
    ) == [
        PROSE,
        PROSE,
    ]


def test_lines_without_a_blank_line_between_them_are_one_paragraph():
    assert passages("The first line of a paragraph goes on,\nand the second one ends.") == [
        "The first line of a paragraph goes on, and the second one ends."
    ]


@pytest.mark.parametrize(
    "unclosed",
    [
        '{| class="wikitable"\n|-\n| a cell of the table\n',
        "{{Infobox country\n| name = Atlantis\n| motto = {{lang|la|One}}\n",
        "[[File:A.jpg|thumb|A caption that is never closed. It is long enough.\n",
        "<ref>A note that is never closed and is certainly long enough.\n",
        "''' a bold that is never closed\n",
        "[[A link that is never closed\n",
        "The end of a template that never began }} and is certainly long enough.\n",
    ],
)
def test_markup_that_is_never_closed_does_not_swallow_what_follows(unclosed):
    assert passages(f"{unclosed}\n{PROSE}\n\n== Next ==\n{PROSE}") == [PROSE, PROSE]


def test_shortest_paragraph():
    words = ["Word"] * MIN_WORDS
    assert passages(" ".join(words) + ".") == [" ".join(words) + "."]
    assert passages(" ".join(words[1:]) + ".") == []


def test_no_markup_is_left_in_the_real_dump(real_documents):
    leftover = re.compile(
        r"''|\[\[|\]\]|\{\{|\}\}|\{\||\|\}|\|-|thumb\||<ref|</|&[a-z]+;|__|https?:|\(\s*\)"
        r"|\([,;]|  |\n|[\x00-\x08\xa0]|Category:|\[\[?File:|,[,;]|,\.\s| 's "
    )
    for document in real_documents.values():
        for paragraph in document.paragraphs:
            found = leftover.search(paragraph)
            assert not found, (document.title, found, paragraph)


# Read off the source of the pages by hand.
@pytest.mark.parametrize(
    "title, kind, text",
    [
        ("Alabama", "infobox", "MedianHouseholdIncome"),
        ("Alabama", "caption", "The developing skyline of Birmingham in 1915"),
        ("Alabama", "comment", "State game bird"),
        ("Alabama", "heading", "Pre-European settlement"),
        ("Alabama", "list item", "Star Clan of"),
        ("Alabama", "table", "Percentage of population"),
        ("Alabama", "reference", "Elevations and Distances in the United States"),
        ("Alabama", "hatnote", "Alabama (disambiguation)"),
        ("Alabama", "category", "Category:States of the United States"),
        ("Albert Einstein", "table cell that is a sentence", "Resolved an unsolved puzzle by"),
        ("Albert Einstein", "reference", "Longman Pronunciation Dictionary"),
        ("Apollo 11", "gallery", "Spectators camp out to watch the launch"),
        ("Algeria", "item of the bibliography", "Translated from French and edited by Michae"),
        ("Alkane", "table caption", "Comparison of nomenclatures for three isomers"),
    ],
)
def test_what_is_dropped_from_a_real_article(title, kind, text, real_pages, real_documents):
    assert text in real_pages[title].wikitext
    assert not any(text in paragraph for paragraph in real_documents[title].paragraphs)


SENTENCE = "This is a sentence of more than eight words, and prose."
NESTED = {"{{quote|": "}}", "{{a|": "}}", "[[a|": "]]", "<b>": "</b>", "\n{|\n|": "\n|}"}


@pytest.mark.parametrize(
    "markup",
    [
        *("{{a|", "{{{a|", "[[a|", "<b>", "<ref>", '<ref name="', "<math>", "<!--"),
        *("\n{|\n|-", "[http://a ", "<b x", "<i><b></i></b>", "={{{</p>}}"),
        *(
            "<div>\n{|\n</div>\n|}",
            "{{quote|[http://a b}}]",
            "[[a|{{quote|]]}}",
            "{{val}},",
            "]][[",
        ),
        *('<li>&amp;</div><div x=">\n|-', "{{b}} (", "{{val}} (", ", ,", "\n;a", "<br>", "}}{{a|"),
    ],
)
def test_the_time_is_linear_in_the_page(markup):
    """Eight times the page takes some eight times the time, not 64; what is not is far from it."""

    def seconds(count):
        page = f"{SENTENCE}\n\n{markup * count}"
        began = time.process_time()
        assert passages(page)[:1] in ([SENTENCE], [])
        return time.process_time() - began

    assert min(seconds(4000), seconds(4000)) < 30 * max(seconds(500), 1e-2)


@pytest.mark.parametrize("begin", NESTED)
def test_nested_markup_takes_time_linear_in_the_page(begin):
    def seconds(count):
        page = f"{SENTENCE}\n\n{begin * count}{NESTED[begin] * count}"
        began = time.process_time()
        assert passages(page)[:1] == [SENTENCE]
        return time.process_time() - began

    assert min(seconds(4000), seconds(4000)) < 30 * max(seconds(500), 1e-2)


def test_a_page_that_closes_nothing_is_no_prose():
    assert passages(f"{SENTENCE}\n\n{'{{a|' * 9}")[:1] == [SENTENCE]
    assert passages(f"{SENTENCE}\n\n{'{{a|' * 60}") == []


@pytest.mark.parametrize(
    "page",
    [
        *("{{a|b}}", "[[a|b]]", "{{{a}}}", "{{a|{{{b}}}}}", "\n{|\n|-\n| a || b\n|}", "<b>a</b>"),
        *("[http://a b]", "[a]", "a ]] }} |}", "<br><li>a<td>", "<ref name=a />", "<b>[[a]]</b>"),
        *("{{a\n|b=[//c d]\n}}", "{{a\n|}}", "a < b > c", "[a] [[:b]]", "<B>a</b>"),
    ],
)
def test_paired_markup_is_told_from_unpaired(page):
    assert wikitext._unpaired(page) == 0
    assert wikitext._unpaired(f"<b>{page}") == wikitext._unpaired(f"{page}{{{{") == 1


@pytest.fixture(scope="module")
def real_pages(dump_path):
    return {page.title: page for page in read_pages(dump_path)}


@pytest.mark.parametrize(
    "title, sentence",
    [
        (
            "Alabama",
            "At 1300 mi, Alabama has one of the longest navigable inland waterways in the nation.",
        ),
        (
            "Alabama",
            "It is bordered by Tennessee to the north, Georgia to the east, Florida and the Gulf of"
            " Mexico to the south, and Mississippi to the west.",
        ),
        (
            "Alkane",
            "Cycloalkanes are named as per their acyclic counterparts with respect to the number of"
            " carbon atoms, e.g., cyclopentane (C5H10) is a cycloalkane with 5 carbon atoms",
        ),
        ("Alkane", "They are hydrocarbons just like alkanes, but contain one or more rings."),
        (
            "Andre Agassi",
            "In 1998, Agassi began a rigorous conditioning program and worked his way back up the"
            " rankings by playing in Challenger Series tournaments, a circuit for pro players"
            " ranked outside the world's top 50.",
        ),
        (
            "Apollo 11",
            "After the crew of Apollo 10 named their spacecraft Charlie Brown and Snoopy, assistant"
            " manager for public",
        ),
        ("Apollo 11", "24 km from the recovery ship, USS Hornet."),
        ("Albert Einstein", "14 March 1879 – 18 April 1955) was a German-born theoretical"),
    ],
)
def test_prose_of_a_real_article_is_intact(title, sentence, real_documents):
    assert any(sentence in paragraph for paragraph in real_documents[title].paragraphs)


def test_a_real_article_keeps_its_length(real_documents):
    assert sum(len(text.split()) for text in real_documents["Alabama"].paragraphs) > 8000
