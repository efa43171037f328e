"""Checks that every config goes through; each names the key and the fix."""

import math
from typing import Any

from pipelines.command_line import meant
from pipelines.images import layer_notation

DTYPES = ("auto", "float32", "mixed_bfloat16")
_OF_TEXTS = ("images.layers",)  # lists of texts; other lists hold numbers
_RANGES = {
    "above 0": lambda value: value > 0,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
    "in (0, 1)": lambda value: 0 < value < 1,
}


def check_types(flat: dict[str, Any], known: dict[str, Any]):
    """Refuses unknown keys and values of the wrong type.

    Args:
        flat: dict of dotted keys to values, the config to check.
        known: dict of dotted keys to values of the right types.

    Raises:
        ValueError: names the key.
    """
    problems = [problem for key in flat if (problem := _type_problem(key, flat[key], known))]
    if problems:
        raise ValueError("; ".join(problems))


def _type_problem(key, value, known):
    """What is wrong with the name or the type of a value, or None."""
    if key not in known:
        return f"the config holds {key}, which nothing reads{meant(key, known)}"
    kind: Any = type(known[key])
    fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
    if kind is float and type(value) is int:
        fits = True  # 1 where 1.0 is meant
    items, item_kind = ("texts", str) if key.endswith(_OF_TEXTS) else ("numbers", int | float)
    if kind is list and fits:
        fits = all(isinstance(item, item_kind) for item in value)  # pyright: ignore[reportGeneralTypeIssues]
    if not fits:
        wanted = f"list of {items}" if kind is list else kind.__name__
        return f"--config.{key}={value!r}: must be of type {wanted}"
    if isinstance(value, int) and value >= 2**31 and key != "seed":
        return f"--config.{key}={value}: must be below 2**31"
    if kind is float and not math.isfinite(value):
        return f"--config.{key}={value}: must be finite"
    return None


class Requirements:
    """Checks a flat config and collects what is wrong: for each key, the first problem.

    Args:
        flat: dict of dotted keys to values.
        open_keys: collection of str, the keys whose values are chosen later: nothing is required of
            them yet.

    Attributes:
        problems: dict of a key to a text that names key, value and fix.
        conflicts: set of str, the keys whose value is wrong only together with those of other keys.
    """

    def __init__(self, flat, open_keys=()):
        self.flat = flat
        self.open_keys = open_keys
        self.problems = {}
        self.conflicts = set()

    def require(self, condition, key, fix):
        """Notes a problem unless a condition holds.

        Args:
            condition: bool.
            key: str, the dotted key to blame.
            fix: str, what its value must be.
        """
        if not condition and key not in self.open_keys:
            self.problems.setdefault(key, f"--config.{key}={self.flat[key]}: {fix}")

    def require_beside(self, condition, key, others, fix):
        """Notes a conflict unless a condition holds; a value that is bad by itself has none.

        Args:
            condition: callable without arguments that returns a bool.
            key: str, the dotted key to blame.
            others: sequence of str, the keys whose values it must be compatible with.
            fix: str, what its value must be.
        """
        if self.problems.keys().isdisjoint((key, *others)) and not condition():
            self.require(False, key, fix)
            self.conflicts.add(key)

    def raise_problems(self, conflicts=True, works=""):
        """Raises all that is wrong as one error.

        Args:
            conflicts: bool, whether conflicts count.
            works: str, arguments with which the command works; empty if unknown.

        Raises:
            ValueError: there are problems.
        """
        texts = [
            text for key, text in self.problems.items() if conflicts or key not in self.conflicts
        ]
        if texts:
            works = f"; this works, added to the command: {works}" if works else ""
            raise ValueError("; ".join(texts) + works)

    def at_least(self, least, *keys):
        """Requires a minimum.

        Args:
            least: int or float.
            *keys: str, the keys whose values are checked.
        """
        for key in keys:
            self.require(self.flat[key] >= least, key, f"must be at least {least}")

    def must_be(self, wanted, *keys):
        """Requires values in a range.

        Args:
            wanted: str, a key of `_RANGES`, such as `in [0, 1)`.
            *keys: str, the keys whose values are checked.
        """
        for key in keys:
            self.require(_RANGES[wanted](self.flat[key]), key, f"must be {wanted}")

    def multiple(self, key, of):
        """Requires a multiple of another value.

        Args:
            key: str.
            of: str, the key of the other value.
        """
        fix = f"must be a multiple of {of}, which is {self.flat[of]}"
        self.require_beside(lambda: self.flat[key] % self.flat[of] == 0, key, (of,), fix)

    def executions(self, ends):
        """Requires `steps_per_execution` to divide the steps at which executions must end.

        Args:
            ends: sequence of str, the keys of these steps.
        """
        executed = max(self.flat["steps_per_execution"], 1)
        for key in ends:
            self.require_beside(
                lambda key=key: self.flat[key] % executed == 0,
                "steps_per_execution",
                (key,),
                f"must be a divisor of {key}, which is {self.flat[key]}",
            )

    def one_of(self, key, known):
        """Requires one of several values.

        Args:
            key: str.
            known: sequence of str, the valid values.
        """
        self.require(self.flat[key] in known, key, f"must be one of {', '.join(known)}")

    def image_views(self, prefix, batch):
        """Checks how images are cropped, augmented and mixed: the keys below `prefix`.

        Args:
            prefix: str, with the dot at its end.
            batch: str, the key of the number of images per step.
        """
        area = self.flat[f"{prefix}crop_area"]
        self.require(
            len(area) == 2 and 0 < area[0] <= area[1] <= 1,
            f"{prefix}crop_area",
            "must be two numbers with 0 < first <= second <= 1",
        )
        operations, magnitude = (*self.flat[f"{prefix}randaugment"], -1, -1)[:2]
        self.require(
            len(self.flat[f"{prefix}randaugment"]) == 2
            and all(isinstance(value, int) for value in (operations, magnitude))
            and operations >= 0
            and 0 <= magnitude <= 30,
            f"{prefix}randaugment",
            "must be two integers, operations an image from 0 and a magnitude from 0 to 30",
        )
        self.at_least(0, f"{prefix}mixup", f"{prefix}cutmix")
        mixed = self.flat[f"{prefix}mixup"] or self.flat[f"{prefix}cutmix"]
        self.require_beside(
            lambda: not mixed or self.flat[batch] % 2 == 0,
            batch,
            (f"{prefix}mixup", f"{prefix}cutmix"),
            "must be even: images are mixed in pairs",
        )
        self.must_be("in (0, 1]", f"{prefix}central_crop")
        for text in self.flat[f"{prefix}layers"]:
            try:
                layer_notation.parse(text)
            except ValueError as error:
                self.require(False, f"{prefix}layers", str(error))


def batch_unit(config, replicas, mixed=False):
    """What a batch must be a multiple of.

    Args:
        config, replicas, mixed: see `require_shares`.
    """
    return replicas * math.lcm(config.get("accumulation", 1), 2 if mixed else 1)


def require_shares(config, key, replicas, mixed=False):
    """Refuses a batch that the replicas, and the parts of `accumulation`, cannot share evenly.

    Args:
        config: `ConfigDict`; without `accumulation` there is one part.
        key: str, of the batch.
        replicas: int.
        mixed: bool, whether its images are mixed in pairs.

    Raises:
        ValueError: names the key and the fix.
    """
    parts, unit = config.get("accumulation", 1), batch_unit(config, replicas, mixed)
    if config[key] % unit:
        below = config[key] // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        pairs = f", times {parts} parts (accumulation)" if parts > 1 else ""
        pairs += ", times 2 as images are mixed in pairs" if mixed and parts % 2 else ""
        raise ValueError(
            f"--config.{key}={config[key]}: must be a multiple of the number of replicas, "
            f"{replicas}{pairs}; the nearest are {nearest}"
        )
