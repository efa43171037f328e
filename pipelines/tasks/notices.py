"""What looks wrong in a user's data, or was decided for them: a line each, and data for scripts."""

import collections
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

_SHOWN = 3  # examples of a notice


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something in the data that a user should know of, and that stops nothing."""

    kind: str  # one word, for scripts
    split: str
    text: str
    count: int = 0  # how many examples, classes or rows it is about
    examples: tuple[str, ...] = ()  # the names of the first three

    @classmethod
    def of(cls, kind: str, split: str, text: str, names: Sequence[str]) -> "Notice":
        """A notice about some examples or classes, by their names; it begins with their number."""
        return cls(kind, split, f"{len(names):,} {text}", len(names), tuple(names[:_SHOWN]))

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        shown = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        return f"notice: {self.split}: {self.text}{shown}"


class Examples(Protocol):
    """The labelled examples of a split."""

    @property
    def count(self) -> int: ...

    @property
    def keys(self) -> Sequence[Hashable]:
        """Equal for equal examples; empty where nobody compared them."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """Those of an example joined; none of images."""
        ...

    def example_name(self, place: int) -> str:
        """What a user finds the example by."""
        ...

    def class_names(self, classes: Sequence[str]) -> Sequence[str]:
        """The class of each example."""
        ...


def find_notices(splits: Mapping[str, Examples], classes: Sequence[str]) -> Iterator[Notice]:
    """Notices about the splits of a user's own data; without `train` nothing is compared with it.

    `classes` are those of images, of texts the labels say it.
    """
    for split, examples in splits.items():
        named = _named(examples, split)
        texts = list(enumerate(examples.texts))
        yield from named("empty", "texts are empty", [n for n, text in texts if not text.strip()])
        yield from named("nul", "texts hold a NUL byte", [n for n, text in texts if "\0" in text])
        labels = examples.class_names(classes)
        of_key, doubtful = {}, []
        for place, key in enumerate(examples.keys):
            if of_key.setdefault(key, labels[place]) != labels[place]:
                doubtful.append(place)
        text = "examples are copies of one with another class"
        yield from named("two_classes", text, doubtful)
    if "train" not in splits:
        return
    train = splits["train"]
    known, labels = set(train.keys), train.class_names(classes)
    for split, examples in splits.items():
        if split != "train":
            shared = [n for n, key in enumerate(examples.keys) if key in known]
            text = f"of {examples.count:,} examples are training examples, too"
            yield from _named(examples, split)("shared", text, shared)
    if len(splits) == 1:  # some will be held out
        copies = [n for n, first in enumerate(first_equal(train.keys)) if first != n]
        text = "examples are copies of another one; none is held out while that is trained on"
        yield from _named(train, "train")("copies", text, copies)
    yield from _of_classes(collections.Counter(labels))


def first_equal(keys: Iterable[Hashable]) -> list[int]:
    """For each key the place of the first one that equals it."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(key, place) for place, key in enumerate(keys)]


def _named(examples: Examples, split: str) -> Callable[[str, str, list[int]], Iterator[Notice]]:
    """A function from a kind, a text and the places of examples to a notice, if there are any."""

    def notices(kind: str, text: str, places: list[int]) -> Iterator[Notice]:
        if places:
            names = [examples.example_name(place) for place in places]
            yield Notice.of(kind, split, text, names)

    return notices


def _of_classes(counts: Mapping[str, int]) -> Iterator[Notice]:
    """Notices about the classes of the training examples, by the number of these."""
    alike: dict[str, list[str]] = {}
    for name in counts:
        alike.setdefault(name.casefold(), []).append(name)
    if twins := [" and ".join(names) for names in alike.values() if len(names) > 1]:
        yield Notice.of("case", "train", "classes are alike but for upper and lower case", twins)
    if single := [name for name, count in counts.items() if count == 1]:
        yield Notice.of("one_example", "train", "classes have a single example", single)
    are_many = len(counts) > sum(counts.values()) / 10 and all(map(_is_number, counts))
    if are_many and (len(counts) > 10 or not all(map(str.isdecimal, counts))):  # not a few digits
        text = "classes, all of them numbers: each becomes a class, nothing here predicts a value"
        yield Notice.of("numbers", "train", text, list(counts))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
