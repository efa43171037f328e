"""Finds the prose in a plain-text book: chapters of paragraphs, from hard-wrapped lines.

Only running prose is kept. It leaves out the licence and credits around a Project Gutenberg book,
title pages, tables of contents, headings, illustrations, footnotes, indices, transcriber's notes,
and verse, lists and tables, whose lines end before they are full. Blank lines separate paragraphs.
"""

import collections
import re

MIN_WORDS = 50  # a shorter chapter is an entry of a table of contents, or a dedication
_FRONT_WORDS = 500  # more words than this before the first heading are not a title page

_START = re.compile(
    r"\*{3} ?START OF TH(?:E|IS) PROJECT GUTENBERG[^*]{0,300}\*{3}"
    r"|\*END[ *]+THE SMALL PRINT![^\n]*",
    re.IGNORECASE,
)
# The match ends where the book does: lines without a word before "End of ..." are not part of it.
# They are searched once, from the last word before them, and not from each of them.
_END = re.compile(
    r"(?=\*{3} ?END OF TH(?:E|IS) PROJECT GUTENBERG)"
    r"|(?:\A|(?<=\w)[^\w\n]*\n)(?=\W*End of (?:the |this )?Project Gutenberg)",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^Title: *(\S.*)$", re.MULTILINE)
_BRACKETED = re.compile(
    r"\[ *(?:illustrations?|transcriber'?s?'? notes?|transcribers?'|footnotes?|frontispiece"
    r"|decoration|editor's note)\b[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r" ?\[(?:\d{1,3}|[A-Z*†‡])\]")
_PUBLISHER = re.compile(
    r"project gutenberg|gutenberg\.(?:org|net)|^(?:e-?text |e-?book )?(?:was )?produced by\b"
    r"|transcriber'?s? note|all rights reserved|\bISBN\b|^copyright\b|©",
    re.IGNORECASE,
)

_ROMAN = r"(?=[IVXLCivxlc])(?:[Cc]{0,3})(?:[Xx][CcLl]|[Ll]?[Xx]{0,3})(?:[Ii][XxVv]|[Vv]?[Ii]{0,3})"
_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
    " fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth last".split()
)
_WORDED = "|".join(
    [rf"(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join([*_ONES, *_ORDINALS])}))?", *_TEENS, *_ONES]
)
_NUMBER = rf"(?:\d{{1,3}}|{_ROMAN}|(?i:{_WORDED})|(?i:the +)?(?i:{'|'.join(_ORDINALS)}))"
_DIVISION = r"(?i:chapter|chap\.?|book|volume|vol\.?|part|letter|section|stave|canto|act|scene)"
_NAMED = (
    "prologue epilogue preface foreword introduction introductory afterword conclusion postscript"
    " dedication interlude".split()
)
_APPARATUS = (
    "contents|table of contents|list of illustrations|illustrations|list of plates|index|errata"
    r"|glossary|(?:foot|end)?notes|(?:a )?notes? on the text|transcriber's notes?|bibliography"
    "|advertisements|by the same author|the end|finis"
)
_HEADING = re.compile(
    rf"(?:{_DIVISION} +(?:no\.? +)?{_NUMBER}(?!\w)"
    rf"|(?:THE +)?(?i:{'|'.join(_ORDINALS)}) +{_DIVISION}"
    rf"|(?i:{'|'.join(_NAMED)})\b)(?:\s*$| *\n.*|\s*[.:;,\]—–-].*)"
    rf"|(?:{_ROMAN}|\d{{1,3}})\.?\s*$",
    re.DOTALL,
)
_APPARATUS_HEADING = re.compile(rf"\W*(?:{_APPARATUS})\W*", re.IGNORECASE)

_RULE = re.compile(r"[\W_]*")
_HYPHENATED = re.compile(r"([^\W\d_]+)-\n([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BLANK_NAME = re.compile(r"_{2,}|-{2,}")
_EMPHASIS = re.compile(r"_|(?<!\w)=(?=\S)|(?<=\S)=(?!\w)")
_PROSE_END = re.compile(r"[.!?…,;:—–-][\"'”’»)\]*]*$")
_VERSE_START = re.compile(r"[\W_]*[^\W\d_a-z]")


def title_of(text: str, default: str) -> str:
    """The title in the header of a Project Gutenberg book, or the default."""
    match = _TITLE.search(text[: 1 << 14])
    return match[1].strip() if match else default


def chapters(text: str) -> list[tuple[str, list[str]]]:
    """The chapters of a book: their headings, which may be empty, and paragraphs without breaks."""
    lines = [line.expandtabs().rstrip() for line in _body(text).splitlines()]
    width = _width(lines)
    words = collections.Counter(_WORD.findall("\n".join(lines)))
    found = [("", [])]
    is_apparatus = is_after_heading = False
    for block, blanks in _blocks(lines):
        first = block[0].strip()
        if _is_heading(block, blanks):
            is_apparatus = _APPARATUS_HEADING.fullmatch(first) is not None
            found.append((" ".join(" ".join(block).split()).strip(" _=*"), []))
            is_after_heading = True
        elif not is_apparatus and not _is_set_off(block, width):
            paragraph = _joined(block, words)
            if _is_prose(paragraph) and not (is_after_heading and _is_title(paragraph)):
                found[-1][1].append(paragraph)
            is_after_heading = False
    return [
        chapter
        for number, chapter in enumerate(found)
        if _count(chapter) >= (MIN_WORDS if number or len(found) == 1 else _FRONT_WORDS)
    ]


def _count(chapter):
    return sum(len(paragraph.split()) for paragraph in chapter[1])


def _body(text):
    """The book without Project Gutenberg's additions around it and without bracketed notes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n\n")
    for match in _START.finditer(text):
        if match.end() < len(text) / 2 or match.end() < 1 << 15:
            start = match.end()
            break
    else:
        start = 0
    # The older header has the small print after the star line of the newer one.
    later = _START.search(text, start, start + (1 << 15))
    start = later.end() if later else start
    text = text[start:]
    end = _END.search(text)
    return _BRACKETED.sub("\n", text[: end.end()] if end else text)


def _width(lines):
    """The length of full lines: the length that a tenth of all lines reach."""
    lengths = sorted(len(line) for line in lines if line)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _blocks(lines):
    """Yields the runs of lines that are not blank, and the number of blank lines before each."""
    block, blanks, before = [], 0, 0
    for line in [*lines, ""]:
        if not line.strip() or _RULE.fullmatch(line):
            if block:
                yield block, before
                block, blanks = [], 0
            blanks += 1
        else:
            if not block:
                before = blanks
            block.append(line)


def _is_heading(block, blanks):
    if len(block) > 4:
        return False
    text = "\n".join(line.strip().strip("_=*") for line in block)
    match = _HEADING.match(text)
    if match or _APPARATUS_HEADING.fullmatch(text):
        # A title may follow the number, but a whole paragraph is unlikely.
        return len(text) < 200
    is_upper = text.isupper() and sum(map(str.isalpha, text)) > 2 and not text.endswith(",")
    return is_upper and blanks >= 2 and len(block) <= 3


def _is_set_off(block, width):
    """Whether lines end before they are full, as those of verse, lists and tables do."""
    lines = [line.strip() for line in block]
    if len(lines) < 2:
        return False
    full = max(max(map(len, lines)), 0.65 * width)
    early = [
        len(line) + 1 + len(after.split()[0]) <= full and len(line) < 0.8 * width
        for line, after in zip(lines, lines[1:], strict=False)
    ]
    if sum(early) > len(early) / 2:
        return True
    mean = sum(map(len, lines[:-1])) / (len(lines) - 1)
    return len(lines) > 2 and mean < 0.85 * width and all(map(_VERSE_START.match, lines))


def _joined(block, words):
    """The text of a paragraph's lines."""
    text = "\n".join(line.strip() for line in block)
    if "-\n" in text:
        text = _HYPHENATED.sub(lambda match: _rejoined(match, words), text)
    text = text.replace("--\n", "--").replace("\n--", "--").replace("—\n", "—").replace("\n—", "—")
    text = _EMPHASIS.sub("", _BLANK_NAME.sub("—", _REFERENCE.sub("", text)))
    return " ".join(text.split())


def _rejoined(match, words):
    """Rejoins a word divided at the end of a line: drops or keeps the hyphen, as elsewhere."""
    start, end = match.groups()
    together, hyphenated = words[start + end], words[f"{start}-{end}"]
    if together != hyphenated:
        return start + end if together > hyphenated else f"{start}-{end}"
    # Each part occurs here once itself.
    return f"{start}-{end}" if min(words[start], words[end]) > 1 else start + end


def _is_prose(paragraph):
    return (
        _PROSE_END.search(paragraph) is not None
        and any(map(str.islower, paragraph))
        and not _PUBLISHER.search(paragraph)
    )


def _is_title(paragraph):
    """Whether a paragraph after a heading is its second line: most words begin with a capital."""
    words = [word for word in _WORD.findall(paragraph) if len(word) > 3]
    capitals = sum(word[0].isupper() for word in words)
    return len(paragraph.split()) <= 15 and len(words) >= 3 and capitals > 0.7 * len(words)
