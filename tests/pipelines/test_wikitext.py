import pytest

from pipelines.wikitext import MIN_WORDS, passages

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
    words = ["word"] * MIN_WORDS
    assert passages(" ".join(words) + ".") == [" ".join(words) + "."]
    assert passages(" ".join(words[1:]) + ".") == []
