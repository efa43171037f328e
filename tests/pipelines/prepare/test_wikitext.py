import re

import pytest

from pipelines.prepare.wikitext import passages

PROSE = "This is a sentence of prose that has words enough."


@pytest.mark.parametrize(
    "markup",
    [
        "{{Infobox country\n| name = Atlantis\n| motto = {{lang|la|One, two, three.}}\n}}",
        '{| class="wikitable"\n|+ A caption of the table. With two sentences in it, even.\n'
        "|-\n! Head !! Other\n|-\n| A cell that holds a whole sentence, long enough. || 2\n|}",
        "* An item that holds a whole sentence and is long enough.\n"
        ": An indented line that holds a whole sentence and is long enough.\n"
        "; A term that holds a whole sentence and is long enough.",
        "== A heading that looks like a sentence and is long enough. ==",
        "[[File:A.jpg|thumb|A caption with a [[link]] in it, and words enough. Two sentences.]]",
        "<syntaxhighlight>print('A sentence that is long enough, in code.')</syntaxhighlight>",
        "The number <math>x^2</math> is in a sentence that would be broken without it.",
        "No end to this line of words, however long it is",
        "where the sentence goes on that began before a formula and a blank line.",
    ],
)
def test_what_is_not_prose_is_dropped_and_its_neighbours_stay(markup):
    assert passages(f"{PROSE}\n\n{markup}\n\n{PROSE} Again.") == [PROSE, f"{PROSE} Again."]


# What a sentence becomes; None: it is left out.
SENTENCES = {
    # Links, entities and quotes become plain text.
    "'''Oil''' is a [[Pigment|kind]] of [[paint]] &ndash; or &amp;ndash; sold at"
    " [http://x.org a shop] in ''Paris'', not in [[:Category:Rome]] [http://y.org].": (
        "Oil is a kind of paint – or – sold at a shop in Paris, not in Category:Rome."
    ),
    # References and templates leave no trace.
    "Anna ({{IPA|anna}}; {{lang-el|a}}, born 1900{{cn}}) painted<ref>A note. With words.</ref>"
    " many walls ( ) and doors (,) in her life<ref name=x/>, too.": (
        "Anna (born 1900) painted many walls and doors in her life, too."
    ),
    # Templates that hold words of the sentence are read.
    "''Animal Farm'''s home is {{convert|98|mi|km|0}} long, {{convert|1|-|4|km2}} wide,"
    " {{convert|5|ft|8|in|cm}} deep, {{nowrap|very [[old]]}} and called"
    " ''{{lang|la|Mare}}''{{'s}} daughter.": (
        "Animal Farm's home is 98 mi long, 1 - 4 km2 wide, 5 ft 8 in deep, very old and called"
        " Mare's daughter."
    ),
    # Templates put words of their own into it.
    "The {{USS|Hornet|CV-12|6}} cost {{US$|2 billion}} in {{circa|1900}}, and"
    " {{as of|2008|lc=y}} lies where on {{OldStyleDate|February 2|1905|January 20}} it was"
    " {{sic|recieved}}{{sic}}.": (
        "The USS Hornet cost US$2 billion in c. 1900, and as of 2008"
        " lies where on February 2, 1905 it was recieved."
    ),
    # Doubled punctuation around a template is fixed.
    "They sailed to the ship, {{IPA|x}}. One (Pashto/Dari: {{IPA|y}}, ''Ship'') was there;"
    " {{IPA|z}}, and left.": (
        "They sailed to the ship. One (Pashto/Dari, Ship) was there, and left."
    ),
    # A formula in parentheses is left out with them, elsewhere with its sentence.
    "It cost five dollars (${{Inflation|US|5|1929}} in {{CURRENTYEAR}} dollars) and was small"
    " (near <math>x</math>), they say.": "It cost five dollars and was small, they say.",
    "It cost five dollars (or six), or ${{Inflation|US|5|1929}} in a year.": None,
    "The function f(<math>x</math>) is one of those that nobody knows well.": None,
    # Whatever is in references and comments.
    "It was painted<ref>{{cite book|title=[[A]] {{nowrap|b}}\n\n* c}}</ref> by her"
    "<REF name='a b' /> on a wall<ref name=x>A.</ref > and a"
    " door<!-- <ref> --> or both<references>\n<ref name=a>A.</ref>\n</references>"
    "{{a|{{b|{{nowrap|d}}}}}}.": "It was painted by her on a wall and a door or both.",
}


@pytest.mark.parametrize("markup", SENTENCES)
def test_markup_in_a_sentence(markup):
    assert passages(markup) == [SENTENCES[markup]] * (SENTENCES[markup] is not None)


def test_a_reference_without_an_end_tag_keeps_the_paragraphs_up_to_the_next_one():
    last = "The next<ref>A</ref> one is here, and it is long enough."
    kept = [PROSE, PROSE, "The next one is here, and it is long enough."]
    assert passages(f"{PROSE}<ref>Note.\n\n{PROSE}\n\n{last}") == kept


def test_quotations_are_paragraphs_of_their_own():
    quotations = f"{{{{quote|{PROSE}|The author}}}}\n<blockquote>{PROSE}</blockquote>"
    assert passages(f"He said:\n{quotations}") == [PROSE, PROSE]


@pytest.mark.parametrize(
    "unclosed",
    [
        '{| class="wikitable"\n|-\n| a cell of the table\n',
        "{{Infobox country\n| name = Atlantis\n| motto = {{lang|la|One}}\n",
        "<ref>A note that is never closed and is certainly long enough.\n",
    ],
)
def test_markup_that_is_never_closed_does_not_swallow_what_follows(unclosed):
    assert passages(f"{unclosed}\n{PROSE}\n\n== Next ==\n{PROSE}") == [PROSE, PROSE]


def test_no_markup_is_left_in_the_real_dump(real_documents):
    leftover = re.compile(
        r"''|\[\[|\]\]|\{\{|\}\}|\{\||\|\}|\|-|thumb\||<ref|</|&[a-z]+;|__|https?:|\(\s*\)"
        r"|\([,;]|  |\n|[\x00-\x08\xa0]|Category:|\[?File:|,[,;]|,\.\s| 's "
    )
    for document in real_documents.values():
        for paragraph in document.paragraphs:
            assert not leftover.search(paragraph), (document.title, paragraph)


def test_a_page_that_closes_nothing_is_no_prose():
    assert passages(f"{PROSE}\n\n{'{{a|' * 9}")[:1] == [PROSE]
    assert passages(f"{PROSE}\n\n{'{{a|' * 60}") == passages("<b x " * 60 + PROSE) == []
    assert passages(f"{PROSE}\n\n{'{{a}} [[b]] <b>c</b> ' * 60}")[:1] == [PROSE]


# Read off the source of the page by hand.
def test_a_real_article_keeps_its_prose_and_no_more(real_documents):
    paragraphs = real_documents["Alabama"].paragraphs
    for text, is_prose in (
        ("At 1300 mi, Alabama has one of the longest navigable inland waterways in the", True),
        ("MedianHouseholdIncome", False),  # infobox
        ("The developing skyline of Birmingham in 1915", False),  # caption
        ("Star Clan of", False),  # list item
        ("Elevations and Distances in the United States", False),  # reference
    ):
        assert any(text in paragraph for paragraph in paragraphs) == is_prose
    assert sum(len(text.split()) for text in paragraphs) > 8000
