"""Finds the prose in MediaWiki's markup.

BERT's pre-training text is "text passages only": lists, tables and headers are ignored. What a
page holds besides prose (templates, tables, lists, captions, references, formulas) is dropped here.
mwparserfromhell parses the page without its references, formulas and the like, as MediaWiki itself
removes these first; with them it takes 1.7 times as long. `_flatten` decides what stays, `_blocks`
which lines are prose, and `_clean` fixes the text around what was removed. The parser's own
`strip_code` keeps lists, captions and tables, and drops the words of templates.
"""

from __future__ import annotations

import collections
import html
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mwparserfromhell.nodes import Node, Tag, Template, Wikilink

MIN_WORDS = 8  # a shorter paragraph is a caption, a stray label, or what a formula left behind

# The text of these HTML-like tags is part of the sentence around it. Every other tag is dropped
# with its content: references, formulas, galleries, source code, tables, and what extensions add.
_PROSE_TAGS = frozenset(
    "abbr b bdi big blockquote cite dfn em font i ins kbd mark nowiki onlyinclude p poem q s samp"
    " section small span strong sub sup u var".split()
)
_LIST_TAGS = frozenset({"li", "dd", "dt"})  # `*` and `#`, `:`, `;` at the start of a line

# A sentence that had one of these is broken without it, so its paragraph is dropped.
_FORMULA_TAGS = frozenset("ce chem code hiero math score source syntaxhighlight tt".split())
_FORMULA_TEMPLATES = {"format price"} | frozenset(
    "age angbr carbon chem chem2 code currentyear eqm frac inflation math mvar nuclide physics"
    " railgauge sfrac simplenuclide su sub sup val".split()
)
# Templates that hold words of the sentence, and the position of the words among the arguments.
# Every other template is dropped.
_TEXT_TEMPLATES = {
    "abbr": 1, "blockquote": 1, "cquote": 1, "em": 1, "lang": 2, "nihongo": 1, "nobr": 1,
    "not a typo": 1, "nowrap": 1, "quote": 1, "sc": 1, "sic": 1, "small": 1, "smallcaps": 1,
    "strong": 1, "transl": -1, "transliteration": -1, "visible anchor": 1,
}  # fmt: skip
# Templates that put something before their words.
_PREFIX_TEMPLATES = {
    "as of": "As of ", "c.": "c. ", "circa": "c. ", "us patent": "U.S. Patent ", "us$": "US$",
    "£": "£", "€": "€",
}  # fmt: skip
_OLD_STYLE_DATE = "oldstyledate"  # {{OldStyleDate|2 February|1905|20 January}}: 2 February 1905
# {{USS|Hornet|CV-12}} reads "USS Hornet".
_SHIPS = frozenset("hmas hmcs hms ms mv rms sms ss uss".split())
_BLOCKS = frozenset({"blockquote", "cquote", "p", "poem", "quote"})  # paragraphs of their own
_SIGNS = {"'": "'", "'s": "'s", "em dash": "—", "en dash": "–", "mdash": "—", "nbsp": " ",
          "ndash": "–", "snd": " – ", "spaced en dash": " – ", "spaced ndash": " – "}  # fmt: skip
_RANGES = frozenset({"-", "–", "to", "and", "or", "by", "x", "×", "to(-)", "and(-)", "+/-", "±"})

# Links into these namespaces show a picture, or file the page under a category: no words.
_SILENT_NAMESPACES = frozenset({"file", "image", "media", "category"})

# What MediaWiki removes before it parses the markup: up to the first end tag, whatever is between.
# An unclosed comment runs to the end of the page; an unclosed tag is left as it is.
_EXTENSION = re.compile(
    r"<!--.*?(?:-->|\Z)"
    r"|<(ce|chem|gallery|graph|hiero|imagemap|mapframe|maplink|math|nowiki|pre|ref|references|score"
    r"|source|syntaxhighlight|templatestyles|timeline)\b[^<>]*(?:(?<=/)>|(?<!/)>.*?</\1\s*>)",
    re.IGNORECASE | re.DOTALL,
)
# The parser reads to the end of the page for each opener that is never closed.
_MAX_UNPAIRED = 50
_PAIRS = (("{{", "}}"), ("[[", "]]"), ("{|", "|}"))
_TAG = re.compile(r"<(/?)([a-z]+)[^<>]*?(/?>|(?=<)|\Z)", re.IGNORECASE)

_POSSESSIVE = re.compile(r"(?<!')''(?!')([^'\n]+)'''s\b")  # ''Animal Farm'''s
_QUOTES = re.compile(r"'{2,}")
_UNCLOSED = re.compile(r"(?:<ref\b|\[\[(?:file|image)\s*:).*", re.IGNORECASE)
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")

# Marks inside the flattened page. XML, and so a dump, cannot hold any of these characters.
_HOLE = "\x01"  # something inside a line was removed here
_LIST = "\x02"  # this line is an item of a list
_FORMULA = "\x03"  # a formula was here

_FORMULA_ASIDE = re.compile(
    rf"\s\([^(){_FORMULA}]*{_FORMULA}[^()]*\)"
)  # the sentence is whole without it
_EMPTY_PARENTHESES = re.compile(rf"[(\[][\s{_HOLE},;:/–—-]*[)\]]")
_AFTER_OPENING = re.compile(rf"\((?:[\s,;]|{_HOLE}:?)+")
_BEFORE_CLOSING = re.compile(rf"(?<![\s{_HOLE},;])[\s{_HOLE},;]+\)")
_DOUBLED = re.compile(rf"[,;:]\s*{_HOLE}\s*(?=[,;.:])")  # "at sea,\x01. " lost its end
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)\]])(?!\w)")
_SPACES = re.compile(r"\s+")
_SENTENCE = re.compile(r"[\w\"'“‘(\[¿¡$£€…].*[.!?…][\"'”’)\]]*(?:\s|$)")
_CONTINUATION = re.compile(r"[a-zß-öø-ÿ](?![A-Z])")  # the end of a sentence that held a formula


def passages(wikitext: str) -> list[str]:
    """The prose paragraphs of a page in MediaWiki's markup: plain text without line breaks.

    None of a page that opens many templates, tables, links or tags without closing them: the parser
    would take hours.
    """
    import mwparserfromhell

    rest = _EXTENSION.sub(_gap, wikitext)
    if _unpaired(rest) > _MAX_UNPAIRED:
        return []
    # Apostrophes are left to `_clean`: unbalanced ones would nest whole pages inside a tag.
    page = mwparserfromhell.parse(rest, skip_style_tags=True)
    paragraphs = []
    for block in _blocks("".join(_flatten(page.nodes)).split("\n")):
        block = _FORMULA_ASIDE.sub(" ", block)
        if _FORMULA not in block:
            text = _clean(block)
            if _is_prose(text):
                paragraphs.append(text)
    return paragraphs


def _gap(extension: re.Match[str]) -> str:
    """What is left of a comment, reference, formula or the like."""
    whole, name = extension[0], (extension[1] or "").lower()
    if name in ("nowiki", "pre") or "<ref" in whole[1:]:  # the latter: a forgotten end tag
        return whole
    return (_FORMULA if name in _FORMULA_TAGS else _HOLE) if name else ""


def _unpaired(wikitext: str) -> int:
    """How many openers are never closed, whatever the order; a tag without its end counts, too."""
    from mwparserfromhell.definitions import is_single

    unpaired = sum(abs(wikitext.count(begin) - wikitext.count(end)) for begin, end in _PAIRS)
    tags = collections.Counter()
    for is_end, name, end in _TAG.findall(wikitext):
        tags[name.lower()] += 0 if end == "/>" else -1 if is_end else 1
        unpaired += not end
    return unpaired + sum(abs(count) for name, count in tags.items() if not is_single(name))


def _flatten(nodes: Iterable[Node]) -> Iterator[str]:
    """Yields the pieces of text that a reader of the page would see in its paragraphs."""
    from mwparserfromhell import nodes as kinds

    for node in nodes:
        if isinstance(node, kinds.Text):
            yield node.value
        elif isinstance(node, kinds.Wikilink):
            yield from _link(node)
        elif isinstance(node, kinds.Tag):
            yield from _tag(node)
        elif isinstance(node, kinds.HTMLEntity):
            yield html.unescape(str(node))
        elif isinstance(node, kinds.ExternalLink):
            yield from _flatten(node.title.nodes) if node.title else _HOLE
        elif isinstance(node, kinds.Template):
            yield from _template(node)
        elif isinstance(node, kinds.Heading):
            yield "\n\n"
        else:
            yield _HOLE


def _link(node: Wikilink) -> Iterator[str]:
    target = str(node.title).strip()
    if target.partition(":")[0].strip().lower() in _SILENT_NAMESPACES and ":" in target:
        yield _HOLE
    elif node.text is not None:
        yield from _flatten(node.text.nodes)
    else:
        yield target.lstrip(":")


def _tag(node: Tag) -> Iterator[str]:
    name = str(node.tag).strip().lower()
    if name in _LIST_TAGS and node.wiki_markup:
        yield _LIST
    elif name in _FORMULA_TAGS:
        yield _FORMULA
    elif name == "br":
        yield " "
    elif name in _PROSE_TAGS and node.contents is not None:
        yield from _in_block(name, _flatten(node.contents.nodes))
    else:
        yield _HOLE


def _template(node: Template) -> Iterator[str]:
    name = str(node.name).strip().lower()
    words = [argument.value for argument in node.params if not argument.showkey]
    if name in _FORMULA_TEMPLATES:
        yield _FORMULA
    elif name in _SIGNS:
        yield _SIGNS[name]
    elif name == _OLD_STYLE_DATE and len(words) > 1:
        day, year = (str(word).strip() for word in words[:2])
        yield f"{day}, {year}" if day[-1:].isdigit() else f"{day} {year}"
    elif name in _SHIPS and words:
        yield f"{name.upper()} {words[0]}"
    elif name in _PREFIX_TEMPLATES and words:
        prefix = _PREFIX_TEMPLATES[name]
        yield prefix.lower() if node.has("lc") else prefix
        yield from _flatten(words[0].nodes)
    elif name in ("convert", "cvt"):
        # {{convert|98|mi|km}} reads "98 mi", {{convert|1|-|4|km2}} "1 - 4 km2", and
        # {{convert|5|ft|8|in|cm}} "5 ft 8 in".
        words = [str(word).strip() for word in words]
        is_double = len(words) > 3 and (words[1] in _RANGES or words[2].isdigit())
        yield " ".join(words[: 4 if is_double else 2])
    elif name in _TEXT_TEMPLATES and node.has("text"):
        yield from _in_block(name, _flatten(node.get("text").value.nodes))
    elif name in _TEXT_TEMPLATES and len(words) >= abs(_TEXT_TEMPLATES[name]):
        position = _TEXT_TEMPLATES[name]
        yield from _in_block(name, _flatten(words[position - (position > 0)].nodes))
    else:
        yield _HOLE


def _in_block(name: str, pieces: Iterator[str]) -> Iterator[str]:
    gap = "\n\n" if name in _BLOCKS else ""
    return itertools.chain([gap], pieces, [gap])


def _blocks(lines: list[str]) -> Iterator[str]:
    """Joins neighbouring lines of prose; a blank line or a line of markup ends a paragraph.

    A table or template that is never closed is text here. Its lines start with a bar, so they are
    dropped one by one and the prose after them stays.
    """
    block = []
    for line in [*lines, ""]:
        is_markup = _LIST in line or line.startswith((" ", "|", "{|", "!"))
        if is_markup or "{{" in line or "}}" in line or not line.strip(_HOLE + " \t"):
            if block:
                yield " ".join(block)
            block = []
        else:
            block.append(line)


def _clean(text: str) -> str:
    """Removes the rest of the markup inside a paragraph, and the holes left by removals."""
    text = _POSSESSIVE.sub(r"\1's", text)
    text = _UNCLOSED.sub("", _MAGIC_WORD.sub("", _QUOTES.sub("", text)))
    text = html.unescape(text.replace("[[", "").replace("]]", ""))  # &amp;ndash; is common
    for _ in range(3):  # parentheses may be nested
        text = _EMPTY_PARENTHESES.sub("", text)
    text = _BEFORE_CLOSING.sub(")", _AFTER_OPENING.sub("(", text))
    text = _DOUBLED.sub("", text)
    text = _SPACES.sub(" ", text.replace(_HOLE, ""))
    return _SPACE_BEFORE.sub(r"\1", text).strip()


def _is_prose(text: str) -> bool:
    """Whether a text has the length, the beginning and the end of a sentence."""
    return (
        len(text.split()) >= MIN_WORDS
        and _SENTENCE.match(text) is not None
        and _CONTINUATION.match(text) is None
    )
