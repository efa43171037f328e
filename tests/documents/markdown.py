"""The project's documents, taken apart: code blocks, code spans, links and headings."""

import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[2]
PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a document.

    Attributes:
        where: str, `FILE:LINE`, for messages.
        text: str.
        more: str, the language of a code block, or the target of a link.
    """

    where: str
    text: str
    more: str = ""


@dataclasses.dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: pathlib.Path

    @property
    def text(self):
        return self.path.read_text()

    @property
    def prose(self):
        """The text with its code blocks blanked, line for line."""
        return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), self.text)

    def blocks(self, language):
        """Code blocks of a language."""
        return [
            self._piece(match, re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE), match[2])
            for match in _FENCE.finditer(self.text)
            if match[2] == language
        ]

    def spans(self):
        """Code spans, each on one line."""
        return [
            self._piece(match, " ".join(match[1].replace("\\|", "|").split()))
            for match in _SPAN.finditer(self.prose)
        ]

    def links(self):
        """Links and pictures; `more` is the target."""
        return [self._piece(match, match[1], match[2]) for match in _LINK.finditer(self.prose)]

    def anchors(self):
        """What links to a place in the document may name, as GitHub makes it of the headings."""
        found = []
        for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE):
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            repeated = found.count(anchor)
            found.append(f"{anchor}-{repeated}" if repeated else anchor)
        return set(found)

    def tables(self):
        """Tables: lists of rows, which are lists of cells; the first row is the header."""
        for table in re.findall(r"(?:^\|.*\|\n)+", self.prose, re.MULTILINE):
            rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
            yield [[cell.strip() for cell in row] for row in rows]

    def _piece(self, match, text, more=""):
        line = self.text[: match.start()].count("\n") + 1
        if match.string != self.text:  # `prose` has as many lines
            line = match.string[: match.start()].count("\n") + 1
        return Piece(f"{self.path.relative_to(ROOT)}:{line}", text, more)


DOCUMENTS = [Document(path) for path in PATHS]


def commands(piece):
    """The commands in a block of shell, each a list of words."""
    pending = ""
    for line in piece.text.splitlines():
        pending = f"{pending}{line}\n"
        if pending.endswith("\\\n"):
            continue
        try:
            words = shlex.split(pending.replace("\\\n", " "), comments=True)
        except ValueError:  # a quotation that ends on a later line
            continue
        pending = ""
        yield from _simple(words)
    assert not pending, f"{piece.where}: {pending!r} does not end"


def _simple(words):
    """The commands of a line, which `&&` joins."""
    while "&&" in words:
        end = words.index("&&")
        yield words[:end]
        words = words[end + 1 :]
    if words:
        yield words
