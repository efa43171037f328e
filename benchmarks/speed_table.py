"""A table of speed: what is measured, against a peer, a ceiling and a target."""

import dataclasses

HEADER = ("what", "ours", "peer", "ratio", "ceiling", "share", "target", "pass")
SECONDS, RATE = "s", "/s"


@dataclasses.dataclass(frozen=True)
class Row:
    """The measurements of one thing.

    Attributes:
        what: str.
        ours: float, in `unit`.
        unit: str, `s` for seconds, where fewer are better; else a rate that ends with `/s`, such
            as `images/s`.
        peer: float, the same for the peer; None without one.
        ratio: float, how many times as fast as the peer ours is: a median of ratios, which need not
            be the ratio of the medians.
        ceiling: float, in `unit`: what the machine would allow; None if it is not known.
        at_least: float, the target of the ratio.
        at_most: float, the target of `ours`, for seconds without a peer.
        note: str, a line below the table.
        failed: str, the error of a row without figures.
        left_out: str, why a row was not measured.
    """

    what: str
    ours: float | None = None
    unit: str = SECONDS
    peer: float | None = None
    ratio: float | None = None
    ceiling: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    failed: str = ""
    left_out: str = ""

    @property
    def share(self):
        """The fraction of what the machine would allow; None without a ceiling."""
        if self.ours is None or self.ceiling is None:
            return None
        return self.ceiling / self.ours if self.unit == SECONDS else self.ours / self.ceiling

    @property
    def passes(self):
        """Whether the target is met; None without one, or where nothing was measured."""
        return self._passes(1)

    def is_far_off(self, margin=2):
        """Whether the row failed, or its ratio misses the target by a margin.

        Seconds without a peer are left out: they depend on the machine.
        """
        if self.failed:
            return True
        return self.at_least is not None and self._passes(margin) is False

    def _passes(self, margin):
        if self.failed:
            return False
        if self.at_least is not None and self.ratio is not None:
            return self.ratio * margin >= self.at_least
        if self.at_most is not None and self.ours is not None:
            return self.ours <= self.at_most * margin
        return None

    def cells(self):
        """The row as it is shown: list of str, one for each of `HEADER`."""
        verdict = {True: "yes", False: "no", None: ""}[self.passes]
        if self.failed or self.left_out:
            verdict = "failed" if self.failed else "left out"
        target = ""
        if self.at_least is not None:
            target = f">= {self.at_least:g}"
        elif self.at_most is not None:
            target = f"<= {self.at_most:g} {self.unit}"
        return [
            self.what,
            self._figure(self.ours),
            self._figure(self.peer),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self._figure(self.ceiling),
            "" if self.share is None else f"{self.share:.0%}",
            target,
            verdict,
        ]

    def _figure(self, value):
        if value is None:
            return ""
        # Three digits, but all those before the point.
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}"


def formatted(rows):
    """The table, with notes and errors below: str.

    Args:
        rows: list of `Row`.
    """
    notes = [
        f"{row.what}: {text}" for row in rows for text in (row.failed or row.left_out, row.note)
    ]
    lines = aligned(HEADER, [row.cells() for row in rows])
    return "\n".join(lines + [note for note in notes if not note.endswith(": ")])


def aligned(header, rows):
    """A table in Markdown, with columns as wide as they must be: list of lines.

    Args:
        header: sequence of str; the first and the last column are aligned left.
        rows: list of sequences of str.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    left = (0, len(header) - 1)

    def line(cells):
        padded = [
            f"{cell:<{width}}" if place in left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * w if k in left else "-" * (w - 1) + ":" for k, w in enumerate(widths)]
    return [line(header), line(rule), *map(line, rows)]
