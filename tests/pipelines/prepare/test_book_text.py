import random
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prepare.books import MIN_WORDS, chapters, title_of

WORDS = "the rain fell on roofs and fields while nobody said a word about it again".split()


def prose(seed, words=60):
    """A paragraph of one sentence."""
    order = random.Random(seed)
    text = " ".join(order.choice(WORDS) for _ in range(words))
    return text.capitalize() + "."


def wrapped(*paragraphs, width=70):
    return "\n\n".join(textwrap.fill(text, width) for text in paragraphs)


ONE, TWO, THREE = (prose(seed) for seed in range(3))
FULL = "It rained all day on the roofs and fields of all the country and"  # a line


@pytest.mark.parametrize(
    "heading",
    [
        "CHAPTER XLVIII.", "Chapter Twenty-One", "CHAPTER THE LAST", "CHAPTER II.--THE RAIN",
        "CHAPTER III\nIn which it rains", "THE SECOND PART", "PROLOGUE", "iv.", "_Chapter 3_",
    ],
)  # fmt: skip
def test_headings_divide_chapters_and_are_no_text(heading):
    made = chapters(f"CHAPTER 77\n\n{wrapped(ONE)}\n\n{heading}\n\n{wrapped(TWO, THREE)}\n")
    assert [paragraphs for _, paragraphs in made] == [[ONE], [TWO, THREE]]
    assert made[1][0] == " ".join(heading.split()).strip("_")


@pytest.mark.parametrize(
    "line",
    [
        "Part two of the plan was simple.", "Book I of the poem was lost.", '"Six," he said.',
        "Letter by letter.", "Partly.", "Mix it.", "Conclusions were drawn.",
    ],
)  # fmt: skip
def test_what_looks_like_a_heading_but_is_text(line):
    made = chapters(f"CHAPTER 1\n\n{wrapped(ONE)}\n\n{line}\n\n{wrapped(TWO)}\n")
    text = [paragraph for _, paragraphs in made for paragraph in paragraphs]
    assert len(made) == 1 and text == [ONE, line, TWO]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(12, 90), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(50, 90),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["\n\n", "\n \n", "\n\n\n", "\n\n   * * * * *\n\n"]),
)
def test_paragraphs_come_out_of_hard_wrapped_lines(sizes, width, line_break, gap):
    expected = [
        [prose(f"{number} {place}", 60 if not place else words) for place, words in enumerate(part)]
        for number, part in enumerate(sizes)
    ]
    parts = [gap.join(textwrap.fill(text, width) for text in part) for part in expected]
    text = "".join(f"CHAPTER {n}\n\n{part}\n\n\n" for n, part in enumerate(parts, 1))
    made = chapters(text.replace("\n", line_break))
    assert [paragraphs for _, paragraphs in made] == expected
    assert [heading for heading, _ in made] == [f"CHAPTER {n}" for n in range(1, len(parts) + 1)]


GUTENBERG = """\
The Project Gutenberg EBook of Rain, by A. Writer

This eBook is for the use of anyone anywhere at no cost and with
almost no restrictions whatsoever.

Title: Rain
       A Novel

{start}

Produced by A Volunteer and others

RAIN

BY A. WRITER

CONTENTS

CHAPTER I. The first rain
CHAPTER II. The second rain.

CHAPTER I

{one}

[Transcriber's Note: a page is missing here.]

[Footnote 1: It was a wet year
and so was the next.]

CHAPTER II

{two}

THE END

{end}

*** START: FULL LICENSE ***

THE FULL PROJECT GUTENBERG LICENSE
""" + "\n\n".join(["Please read this before you distribute or use this work."] * 30)


SMALL_PRINT = "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*"
OLD_START = "***START OF THIS PROJECT GUTENBERG EBOOK RAIN, OR WHAT FELL FROM\nTHE SKY***"
OLD_END = "End of the Project Gutenberg EBook of Rain, by A. Writer\n\n***END OF THIS PROJECT"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (OLD_START, OLD_END),
        (SMALL_PRINT, "End of Project Gutenberg's Rain, by A. Writer"),
    ],
)  # fmt: skip
def test_what_project_gutenberg_adds_is_left_out(start, end):
    wet = ONE + " It was wet."
    text = GUTENBERG.format(start=start, end=end, one=wrapped(f"{wet}[1]"), two=wrapped(TWO))
    assert title_of(text, "x") == "Rain"
    assert chapters(text) == [("CHAPTER I", [wet]), ("CHAPTER II", [TWO])]


def test_books_without_headings_and_long_openings_are_kept():
    assert chapters(wrapped(ONE, TWO)) == [("", [ONE, TWO])]
    opening = [prose(seed) for seed in range(10)]
    made = chapters(f"{wrapped(*opening)}\n\nCHAPTER I\n\n{wrapped(ONE)}")
    assert made == [("", opening), ("CHAPTER I", [ONE])]
    made = chapters(f"{wrapped(*opening[:3])}\n\nCHAPTER I\n\n{wrapped(ONE)}")
    assert made == [("CHAPTER I", [ONE])]
    assert chapters("") == chapters("RAIN\n\nBy A. Writer") == []
    assert chapters(prose(0, MIN_WORDS - 1)) == [] != chapters(prose(0, MIN_WORDS))


@pytest.mark.parametrize("apparatus", ["INDEX", "A NOTE ON THE TEXT"])
def test_apparatus_is_left_out(apparatus):
    made = chapters(f"CHAPTER I\n\n{wrapped(ONE)}\n\n{apparatus}\n\n{wrapped(TWO)}")
    assert made == [("CHAPTER I", [ONE])]


def test_verse_and_lists_are_left_out():
    verse = "The rain it raineth on the just\nAnd also on the unjust,\nBut chiefly on the just."
    address = "A. Writer,\nThe Wet House,\nRainham."
    text = "\n\n".join(["CHAPTER I", wrapped(ONE), verse, wrapped("He sang:"), address, TWO])
    assert chapters(text) == [("CHAPTER I", [ONE, "He sang:", TWO])]
    quoted = textwrap.indent(textwrap.fill(THREE, 50), "    ")  # prose all the same
    assert chapters(f"{wrapped(ONE)}\n\n{quoted}") == [("", [ONE, THREE])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It was _very_ wet, _he said_, and =cold=.", "It was very wet, he said, and cold."),
        ("Mr. ____ came from ----shire--and left.", "Mr. — came from —shire—and left."),
        # The dash goes on where the line ends.
        (f"{FULL} so--\nit was wet.", f"{FULL} so—it was wet."),
    ],
)
def test_signs_inside_paragraphs(text, expected):
    assert chapters(f"{wrapped(ONE)}\n\n{text}\n") == [("", [ONE, expected])]


def test_hyphens_at_line_ends_stay_where_the_book_has_them():
    used = "The umbrella of the well-to-do was a rain-coat of wool and a sea of rain."
    for line_end, rejoined in (
        ("um-\nbrella", "umbrella"),
        ("rain-\ncoat", "rain-coat"),
        ("sea-\nwool", "sea-wool"),  # both are words of the book
        ("cloud-\nlessly", "cloudlessly"),
    ):
        ((_, paragraphs),) = chapters(f"{wrapped(ONE, used)}\n\n{FULL} {line_end} wet again.\n")
        assert paragraphs[2] == f"{FULL} {rejoined} wet again."
