"""What the tokenizer does to characters, as a table for tokenizers in Python and JavaScript.

They read the same `characters.json`, and apply its entries to a text in this order:

    removed    what is left out
    hangul     syllables, which `unicodedata.normalize("NFD", ...)` takes apart
    folded     two strings: a character of the first becomes that of the second in its place
    expanded   a character to the several that it becomes
    words      what is a word by itself: punctuation and ideographs
    spaces     what becomes a space, and so parts words

Those without an explanation of their form are regular expressions, the same in both languages.
"""

from collections.abc import Iterable
from typing import Any

from pipelines.text.tokenization import MAX_WORD_BYTES, folded, isolated

_HANGUL = range(0xAC00, 0xD7A4)  # each is two or three letters, by the same rule in any Unicode
_ASSIGNED = (*range(0xD800), *range(0xE000, 0x33480), *range(0xE0000, 0xE1000))  # or private


def table(lower_case: bool) -> dict[str, Any]:
    """The table of a tokenizer, JSON-serialisable, and the longest word in bytes of UTF-8."""
    changed = {chr(code): folded(code) for code in _ASSIGNED if lower_case and code not in _HANGUL}
    changed = {one: text for one, text in changed.items() if text != one}
    single = {one: text for one, text in changed.items() if len(text) == 1}
    isolations = {code: isolated(chr(code)) for code in _ASSIGNED}
    return {
        "removed": _any_of(ord(one) for one, text in changed.items() if not text),
        "hangul": _any_of(_HANGUL if lower_case else ()),
        "folded": ["".join(single), "".join(single.values())],
        "expanded": {one: text for one, text in changed.items() if len(text) > 1},
        "words": _any_of(code for code, text in isolations.items() if len(text) > 1),
        "spaces": _any_of(code for code, text in isolations.items() if text.isspace()),
        "longest_word": MAX_WORD_BYTES,
    }


def _any_of(codes: Iterable[int]) -> str:
    """A regular expression for a character that is one of some; their code points ascend."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    inside = "".join("-".join(map(_character, ends)) for ends in ranges)
    return f"[{inside}]" if inside else "(?!)"  # the latter matches nothing


def _character(code: int) -> str:
    """A character in a set; one of ASCII may have a meaning there, and is written as its number."""
    return f"\\x{code:02x}" if code < 128 else chr(code)
