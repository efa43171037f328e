"""Splits paragraphs of English prose into sentences."""

import re

# A stop, quotes or brackets that close with it, a space, and something a sentence may begin with.
# A run of stops is tried from its first one only.
_CANDIDATE = re.compile(
    r"(?P<stop>(?<![.!?])[.!?]+|…)(?P<closing>[\"'”’)\]]*)\s+(?=[\"'“‘(\[¿¡]*[^\W_a-zß-öø-ÿ])"
)
_LAST_WORD = re.compile(r"[\w.&'’-]*$")

# A stop after one of these belongs to the word: a name, a place or a date continues after it.
_ABBREVIATIONS = frozenset(
    "adm brig bros ca capt cf col comdr cpl dept dr ed eds esp ex fl ft gen gov hon jan feb apr jun"
    " jul aug sept oct nov dec lt maj messrs mlle mme mr mrs ms mt prof r rep rev rt sen sgt sp spp"
    " st ste supt trans univ v viz vs".split()
)
# These are abbreviations in front of a number, and may be plain words otherwise ("no", "art").
_NUMBERED = frozenset("art c ch eq eqs fig figs no nos op p para pp pt sec ser vol vols".split())
_NUMBER = re.compile(r"\d|[IVXLC]{2,}\b")
_OPENING_WORD = re.compile(r"\W*((?!\w\.)[\w’']+|)")  # not the second "A" of "A. A. Milne"
_INNER_STOPS = re.compile(r"(?:\w\.)+\w")  # "U.S", "e.g", "a.m", with the last stop cut off
# After "U.S.", "etc." or "J." a sentence continues, unless one of these words starts the next.
_OPENERS = frozenset(
    "A After Although An And As At But By During For From He Her His However If In It Its Many"
    " Most On One Other Others She Since So Some Such That The Their Then There These They This"
    " Those Though Thus To Under Until We What When Where While With You".split()
)

_CONTEXT = 40  # characters examined on each side of a stop: longer than a word


def split_sentences(paragraph: str) -> list[str]:
    """Splits a paragraph without line breaks into sentences, none of them empty.

    Stops in abbreviations ("Dr. Smith"), initials ("J. R. R. Tolkien") and numbers ("3.14") do not
    end a sentence.
    """
    sentences = []
    start = 0
    for candidate in _CANDIDATE.finditer(paragraph):
        before = paragraph[max(start, candidate.start() - _CONTEXT) : candidate.start()]
        after = paragraph[candidate.end() : candidate.end() + _CONTEXT]
        if candidate["stop"] == "." and not _ends_sentence(before, candidate["closing"], after):
            continue
        sentences.append(paragraph[start : candidate.end("closing")].strip())
        start = candidate.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(before, closing, after):
    """Whether a single full stop after the text `before` ends the sentence."""
    word = _LAST_WORD.search(before)[0].lstrip("'’-.&")
    opener = _OPENING_WORD.match(after)[1]
    if closing:
        return True
    if len(word) == 1 and word.isupper():
        return opener in _OPENERS  # otherwise the letter is an initial
    if word.lower() in _ABBREVIATIONS:
        return False
    if word.lower() in _NUMBERED:
        return _NUMBER.match(opener) is None
    if _INNER_STOPS.fullmatch(word) or word.lower() == "etc":
        return opener in _OPENERS
    return True
