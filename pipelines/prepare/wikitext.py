"""Finds the prose in MediaWiki's markup.

BERT's pre-training text is "text passages only": lists, tables and headers are ignored. What a
page holds besides prose (templates, tables, lists, captions, references, formulas) is dropped here.
mwparserfromhell parses the page without its references, formulas and the like, as MediaWiki itself
removes these first; with them it takes 1.7 times as long. `_flatten` decides what stays, `_blocks`
which lines are prose, and `_clean` fixes the text around what was removed. The parser's own
`strip_code` keeps lists, captions and tables, and drops the words of templates.
"""

import collections
import functools
import html
import itertools
import re

_MAX_UNPAIRED = 50  # openers; the parser reads to the end of the page for each
# What opens and closes: templates, tables, links, links to other sites (which end with their line),
# and tags.
_TOKEN = re.compile(
    r"(?P<opens>\{\{\{?|^[ \t:]*\{\||\[\[|\[(?=[a-z]*:?//|mailto:))"
    r"|(?P<closes>\}\}\}?|^[ \t]*\|\}(?!\})|\]\]|\]|\n)"
    r"|<(?P<ends>/?)(?P<tag>[a-z][^\s<>/]*)[^<>]*(?P<complete>>?)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSED_BY = {"{{": "}}", "{{{": "}}}", "{|": "|}", "[[": "]]", "[": "]"}

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
    "age angbr carbon code chem chem2 currentyear eqm frac hydrogen inflation math mvar nuclide"
    " nuclide2 physics particle railgauge simplenuclide simplenuclide2 sfrac su sub sup val".split()
)
# Templates that hold words of the sentence, and the position of the words among the arguments.
# Every other template is dropped.
_TEXT_TEMPLATES = {
    "abbr": 1, "blockquote": 1, "cquote": 1, "em": 1, "lang": 2, "nihongo": 1, "nobr": 1,
    "nobreak": 1, "not a typo": 1, "nowrap": 1, "quote": 1, "sc": 1, "sic": 1,
    "small": 1, "smallcaps": 1, "smaller": 1, "strong": 1, "transl": -1, "transliteration": -1,
    "vanchor": 1, "visible anchor": 1,
}  # fmt: skip
# Templates that put something before their words. Two words are the ends of a span of years.
_PREFIX_TEMPLATES = {
    "as of": "As of ", "c.": "c. ", "circa": "c. ", "fl.": "fl. ", "floruit": "fl. ",
    "reign": "r. ", "no.": "No. ", "us patent": "U.S. Patent ", "us$": "US$", "usd": "US$",
    "a$": "A$", "c$": "C$", "gbp": "£", "£": "£", "eur": "€", "€": "€", "inr": "₹",
    "indian rupee": "₹", "jpy": "¥", "¥": "¥",
}  # fmt: skip
_SPANS = frozenset({"c.", "circa", "fl.", "floruit", "reign"})
_OLD_STYLE_DATE = "oldstyledate"  # {{OldStyleDate|2 February|1905|20 January}}: 2 February 1905
# {{USS|Hornet|CV-12}} reads "USS Hornet".
_SHIPS = frozenset(
    "css gts hmas hmcs hms hmnzs ins mf ms mv rfa rms sms ss usat uscgc usns uss".split()
)
_BLOCKS = frozenset({"blockquote", "cquote", "p", "poem", "quote"})  # paragraphs of their own
_SIGNS = {"'": "'", "'s": "'s", "em dash": "—", "en dash": "–", "mdash": "—", "nbsp": " ",
          "ndash": "–", "snd": " – ", "spaced en dash": " – ", "spaced ndash": " – "}  # fmt: skip
_MEASURES = frozenset({"convert", "cvt"})
_RANGES = frozenset({"-", "–", "to", "and", "or", "by", "x", "×", "to(-)", "and(-)", "+/-", "±"})

# Links into these namespaces show a picture, or file the page under a category: no words.
_SILENT_NAMESPACES = frozenset({"file", "image", "media", "category"})
_INTERLANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple)(?:-[a-z]+)*")

# What MediaWiki removes before it parses the markup: up to the first end tag, whatever is between.
# An unclosed comment runs to the end of the page; an unclosed tag is left as it is.
_EXTENSION = re.compile(
    r"<!--"
    r"|<(ce|chem|gallery|graph|hiero|imagemap|mapframe|maplink|math|nowiki|pre|ref|references|score"
    r"|source|syntaxhighlight|templatestyles|timeline)\b[^<>]*>",
    re.IGNORECASE,
)
_POSSESSIVE = re.compile(r"(?<!')''(?!')([^'\n]+)'''s\b")  # ''Animal Farm'''s
_QUOTES = re.compile(r"'{2,}")
_MAGIC_WORD = re.compile(r"__[A-Z]{3,}__")
_LEFTOVER_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_UNCLOSED = re.compile(
    r"(?:<(?:ref|math|gallery|table)\b|\[\[(?:file|image|category)\s*:).*", re.IGNORECASE
)
_MARKUP_LINE = re.compile(r"\s*(?:[*#:;|!]|\{\||=.*=\s*$|-{4,})")

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

    None of a page that opens hundreds of templates, tables, links or tags without closing them.
    The time is linear in the length of the page.
    """
    rest = "".join(_without_extensions(wikitext))
    if _unpaired(rest) > _MAX_UNPAIRED:
        return []
    flat = "".join(_flatten(_parse(rest).nodes))
    paragraphs = []
    for block in _blocks(flat.split("\n")):
        block = _FORMULA_ASIDE.sub(" ", block)
        if _FORMULA not in block:
            text = _clean(block)
            if _is_prose(text):
                paragraphs.append(text)
    return paragraphs


def _without_extensions(wikitext):
    """Yields what is left of a page between references, comments, formulas and the like."""
    place, never_ended = 0, set()
    while opening := _EXTENSION.search(wikitext, place):
        yield wikitext[place : opening.start()]
        name, place = (opening[1] or "").lower(), opening.end()
        if not name:
            end = wikitext.find("-->", place)
            place = len(wikitext) if end < 0 else end + 3
            continue
        if not opening[0].endswith("/>"):
            # If no end tag follows this one, none follows the next one either.
            end = None if name in never_ended else _end_tag(name).search(wikitext, place)
            if end is None:
                never_ended.add(name)
                yield opening[0]
                continue
            place = end.end()
        found = wikitext[opening.start() : place]
        if name in ("nowiki", "pre") or "<ref" in found[1:]:  # the latter: a forgotten end tag
            yield found
        else:
            yield _FORMULA if name in _FORMULA_TAGS else _HOLE
    yield wikitext[place:]


@functools.cache
def _end_tag(name):
    return re.compile(rf"</{name}\s*>", re.IGNORECASE)


def _unpaired(wikitext):
    """How many openers are never closed, or are closed only after what encloses them."""
    from mwparserfromhell.definitions import is_single

    unpaired, stack, counts, place = 0, [], collections.Counter(), 0

    def close(kind):
        nonlocal unpaired
        while counts[kind]:
            opener = stack.pop()
            counts[opener] -= 1
            if opener == kind:
                return
            unpaired += 1

    while token := _TOKEN.search(wikitext, place):
        place = token.end()
        opens, closes, tag = token["opens"], token["closes"], token["tag"]
        if closes == "\n":
            while counts["]"]:
                counts[stack.pop()] -= 1
                unpaired += 1
        elif closes == "}}}" and stack and stack[-1] == "}}":
            close("}}")
            place -= 1  # the third one may close what is around it
        elif closes:
            close(closes.strip())
        elif opens:
            stack.append(_CLOSED_BY[opens.strip(" \t:")])
            counts[stack[-1]] += 1
        elif not token["complete"] or any(token[0].count(quote) % 2 for quote in "\"'"):
            unpaired += 1  # the parser looks for the end of the tag, or of the quotation
        elif token["ends"]:
            close(tag.lower())
        elif not token[0].endswith("/>") and not is_single(tag.lower()):
            stack.append(tag.lower())
            counts[stack[-1]] += 1
    return unpaired + len(stack)


def _parse(wikitext):
    import mwparserfromhell

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
    elif name == _OLD_STYLE_DATE and len(words) > 1:
        day, year = (str(word).strip() for word in words[:2])
        yield f"{day}, {year}" if day[-1:].isdigit() else f"{day} {year}"
    elif name in _SHIPS and words:
        yield f"{name.upper()} {words[0]}"
    elif name in _PREFIX_TEMPLATES:
        prefix = _PREFIX_TEMPLATES[name]
        yield prefix.lower() if node.has("lc") else prefix
        for index, word in enumerate(words[: 2 if name in _SPANS else 1]):
            yield "–" if index else ""
            yield from _flatten(word.nodes)
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

    A table or template that is never closed is text here. Its lines start with a bar, so they are
    dropped one by one and the prose after them stays.
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
    """Removes the rest of the markup inside a paragraph, and the holes left by removals."""
    text = _POSSESSIVE.sub(r"\1's", text)
    text = _MAGIC_WORD.sub("", _QUOTES.sub("", text))
    text = _LEFTOVER_TAG.sub("", _UNCLOSED.sub("", text))
    text = html.unescape(text.replace("[[", "").replace("]]", ""))  # &amp;ndash; is common
    for _ in range(3):  # parentheses may be nested
        text = _EMPTY_PARENTHESES.sub("", text)
    text = _BEFORE_CLOSING.sub(")", _AFTER_OPENING.sub("(", text))
    text = _DOUBLED.sub("", text)
    text = _SPACES.sub(" ", text.replace(_HOLE, ""))
    return _SPACE_BEFORE.sub(r"\1", text).strip()


def _is_prose(text):
    """Whether a text has the length, the beginning and the end of a sentence."""
    return (
        len(text.split()) >= MIN_WORDS
        and _SENTENCE.match(text) is not None
        and _CONTINUATION.match(text) is None
    )
