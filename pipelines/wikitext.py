"""Finds the prose in MediaWiki's markup.

BERT's pre-training text is "text passages only": lists, tables and headers are ignored. What a
page holds besides prose (templates, tables, lists, captions, references, formulas) is dropped here.
mwparserfromhell reads the markup; `_flatten` decides what stays, line by line `_blocks` what is
prose, and `_clean` mends the text around what was removed.
"""

import html
import itertools
import re

from keras_vitbert.command_line import UserError

MIN_WORDS = 8  # a shorter paragraph is a caption, a stray label, or what a formula left behind

# The text of these HTML-like tags is part of the sentence around it. Every other tag goes with its
# content: references, formulas, galleries, source code, tables, and whatever an extension adds.
_PROSE_TAGS = frozenset(
    "abbr b bdi big blockquote cite dfn em font i ins kbd mark nowiki onlyinclude p poem q s samp"
    " section small span strong sub sup u var".split()
)
_LIST_TAGS = frozenset({"li", "dd", "dt"})  # `*` and `#`, `:`, `;` at the start of a line

# A sentence that had one of these is broken without it, so its paragraph is dropped.
_FORMULA_TAGS = frozenset("ce chem code hiero math score source syntaxhighlight tt".split())
_FORMULA_TEMPLATES = frozenset(
    "angbr code chem chem2 eqm frac math mvar nuclide nuclide2 physics particle railgauge"
    " simplenuclide simplenuclide2 sfrac su sub sup val".split()
)
# Templates that hold words of the sentence, and the position of the words among the arguments.
# Every other template is dropped.
_TEXT_TEMPLATES = {
    "abbr": 1, "as of": 1, "blockquote": 1, "cquote": 1, "lang": 2, "nihongo": 1, "nobr": 1,
    "nobreak": 1, "nowrap": 1, "quote": 1, "sc": 1, "small": 1, "smallcaps": 1, "smaller": 1,
    "transl": -1,
}  # fmt: skip
_BLOCKS = frozenset({"blockquote", "cquote", "p", "poem", "quote"})  # paragraphs of their own
_SIGNS = {"'": "'", "'s": "'s", "c.": "c.", "circa": "c.", "mdash": "—", "nbsp": " ", "ndash": "–",
          "snd": " – ", "spaced ndash": " – "}  # fmt: skip
_MEASURES = frozenset({"convert", "cvt"})
_RANGES = frozenset({"-", "–", "to", "and", "or", "by", "x", "×", "to(-)", "and(-)", "+/-", "±"})

# Links into these namespaces show a picture or file the page under a category: no words.
_SILENT_NAMESPACES = frozenset({"file", "image", "media", "category"})
_INTERLANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple)(?:-[a-z]+)*")

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)  # MediaWiki: unclosed runs to the end
_POSSESSIVE = re.compile(r"(?<!')''(?!')([^'\n]+)'''s\b")  # ''Animal Farm'''s
_QUOTES = re.compile(r"'{2,}")
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
_LEFTOVER_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_UNCLOSED = re.compile(
    r"(?:<(?:ref|math|gallery|table)\b|\[\[(?:file|image|category)\s*:).*", re.IGNORECASE
)
_MARKUP_LINE = re.compile(r"\s*(?:[*#:;|!]|\{\||=.*=\s*$|-{4,})")

# Marks inside the flattened page. None of these characters can be in XML, nor so in a dump.
_HOLE = "\x01"  # something inside a line was removed here
_LIST = "\x02"  # this line is an item of a list
_FORMULA = "\x03"  # a formula was here

_EMPTY_PARENTHESES = re.compile(rf"[(\[][\s{_HOLE},;:/–—-]*[)\]]")
_AFTER_OPENING = re.compile(rf"\((?:[\s,;]|{_HOLE}:?)+")
_BEFORE_CLOSING = re.compile(rf"[\s{_HOLE},;]+\)")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?)\]])(?!\w)")
_SPACES = re.compile(r"\s+")
_SENTENCE = re.compile(r"[\w\"'“‘(\[¿¡$£€…].*[.!?…][\"'”’)\]]*(?:\s|$)")


def passages(wikitext) -> list[str]:
    """The prose paragraphs of a page.

    Args:
        wikitext: str, the source of a page in MediaWiki's markup.

    Returns:
        List of str: plain text, one paragraph each, no line breaks and no markup.
    """
    flat = "".join(_flatten(_parse(_COMMENT.sub("", wikitext)).nodes))
    paragraphs = []
    for block in _blocks(flat.split("\n")):
        if _FORMULA not in block:
            text = _clean(block)
            if _is_prose(text):
                paragraphs.append(text)
    return paragraphs


def _parse(wikitext):
    try:
        import mwparserfromhell
    except ImportError:
        raise UserError(
            'mwparserfromhell is not installed; run: pip install "keras-vitbert[sample]"'
        ) from None
    # Apostrophes are left to `_clean`: unbalanced ones would nest whole pages inside a tag.
    return mwparserfromhell.parse(wikitext, skip_style_tags=True)


def _flatten(nodes):
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


def _link(node):
    target = str(node.title).strip()
    namespace = target.partition(":")[0].strip() if ":" in target else ""
    if namespace.lower() in _SILENT_NAMESPACES:
        yield _HOLE
    elif node.text is not None:
        yield from _flatten(node.text.nodes)
    elif _INTERLANGUAGE.fullmatch(namespace):
        yield _HOLE  # names the same article in another language's Wikipedia
    else:
        yield target.lstrip(":")


def _tag(node):
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


def _template(node):
    name = str(node.name).strip().lower()
    words = [argument.value for argument in node.params if not argument.showkey]
    if name in _FORMULA_TEMPLATES:
        yield _FORMULA
    elif name in _SIGNS:
        yield _SIGNS[name]
    elif name in _MEASURES:
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


def _in_block(name, pieces):
    gap = "\n\n" if name in _BLOCKS else ""
    return itertools.chain([gap], pieces, [gap])


def _blocks(lines):
    """Joins neighbouring lines of prose; a blank line or a line of markup ends a paragraph.

    A table or template that is never closed reaches this place as text. Its lines start with a
    bar, so they drop out one by one and the prose after them stays.
    """
    block = []
    for line in [*lines, ""]:
        is_markup = _LIST in line or line.startswith(" ") or _MARKUP_LINE.match(line)
        if is_markup or "{{" in line or "}}" in line or not line.strip(_HOLE + " \t"):
            if block:
                yield " ".join(block)
            block = []
        else:
            block.append(line)


def _clean(text):
    """Removes what is left of the markup inside a paragraph, and the holes of what was removed."""
    text = _POSSESSIVE.sub(r"\1's", text)
    text = _MAGIC_WORD.sub("", _QUOTES.sub("", text))
    text = _LEFTOVER_TAG.sub("", _UNCLOSED.sub("", text))
    text = html.unescape(text.replace("[[", "").replace("]]", ""))  # &amp;ndash; is common
    for _ in range(3):  # parentheses may be nested
        text = _EMPTY_PARENTHESES.sub("", text)
    text = _BEFORE_CLOSING.sub(")", _AFTER_OPENING.sub("(", text))
    text = _SPACES.sub(" ", text.replace(_HOLE, ""))
    return _SPACE_BEFORE.sub(r"\1", text).strip()


def _is_prose(text):
    """True for a text with the length, the beginning and the end of a sentence."""
    return len(text.split()) >= MIN_WORDS and _SENTENCE.match(text) is not None
