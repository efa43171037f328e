"""The names of merges and their options: a rule per entry, a weighting, or both joined by a `+`."""

from pipelines.command_line import meant

MASKS = ("mask", "random_mask")
ENTRIES = (*MASKS, "graddrop")
WEIGHTINGS = (
    *("sum", "pcgrad", "upgrad", "dualproj", "gradvac"),
    *("nash", "fairgrad", "imtl_g", "conflict_free", "ntkmtl"),
    *("mgda", "sdmgrad", "cagrad", "aligned"),
    *("uncertainty", "dwa", "gradnorm", "famo", "random", "alternate"),
)
# Weightings of whole losses, which cannot weigh by block or only some blocks.
OF_LOSSES = ("sum", "uncertainty", "dwa", "gradnorm", "famo", "random", "alternate")
RANKS = ("text", "image", "ratio", "sign")
SCOPES = ("all", "tensor")
TARGETS = ("gradient", "update")
# Options with their defaults, `merge.NAME.OPTION`.
OPTIONS = {
    "gradvac": {"beta": 0.01},
    "fairgrad": {"alpha": 2.0},
    "ntkmtl": {"exponent": 0.5},
    "sdmgrad": {"strength": 0.3},
    "cagrad": {"radius": 0.5},
    "graddrop": {"leak": 0.0},
    "uncertainty": {"rate": 0.01},
    "dwa": {"temperature": 2.0, "window": 100},
    "gradnorm": {"alpha": 1.5, "rate": 0.025},
    "famo": {"rate": 0.025, "decay": 0.001},
}
_RANGES = {
    "in [0, 1]": ("gradvac.beta", "graddrop.leak"),
    "in [0, 1)": ("cagrad.radius",),
    "above 0": (
        *("fairgrad.alpha", "uncertainty.rate", "dwa.temperature", "gradnorm.rate", "famo.rate"),
    ),
}
_AT_LEAST = {
    0: ("ntkmtl.exponent", "sdmgrad.strength", "famo.decay"),
    1e-9: ("mask_ratio_per_update",),  # no run has the steps for smaller ones
    1: ("dwa.window",),
}


def parts_of(name):
    """The parts of a merge's name.

    Args:
        name: str, such as `mask`, `pcgrad` or `mask+pcgrad`.

    Returns:
        (str, of `ENTRIES`, or None; str, of `WEIGHTINGS`, or None).

    Raises:
        ValueError: it is not a merge; says what to give.
    """
    first, plus, second = name.partition("+")
    if not plus:
        if name in ENTRIES:
            return name, None
        if name in WEIGHTINGS:
            return None, name
        known = (*ENTRIES, *WEIGHTINGS)
        names = ", ".join(known)
        raise ValueError(f"must be one of {names}, or such as mask+pcgrad{meant(name, known)}")
    if first not in ENTRIES or second not in WEIGHTINGS:
        raise ValueError(
            f"must be one of {', '.join(ENTRIES)}, a + and one of {', '.join(WEIGHTINGS)}"
        )
    if second == "alternate":
        raise ValueError(
            "alternate uses one gradient per step, so a rule per entry has nothing to merge"
        )
    return first, second


def has_masks(name):
    """Whether a merge, by its checked name, has gradient masks.

    Args:
        name: str.
    """
    return parts_of(name)[0] in MASKS


def without_masks(name):
    """The same merge without gradient masks, or `sum` if nothing else is left: str.

    Args:
        name: str, checked.
    """
    return (parts_of(name)[1] or "sum") if has_masks(name) else name


def blocks_of(text):
    """The range of `merge.blocks`.

    Args:
        text: str, such as `2:10`; empty for all blocks.

    Returns:
        pair of int, or None for all.

    Raises:
        ValueError: it is not a range.
    """
    if not text:
        return None
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError("must be FIRST:END, such as 2:10, or empty for all blocks")
    return int(first), int(end)


def unread(flat, masks=True):
    """The keys of the `merge` section that a merge does not read.

    Args:
        flat: dict of dotted keys to values, whose `merge.name` is checked.
        masks: bool, whether the variant has gradient masks where `merge.name` has them. If not, the
            settings of these masks still count as read: variants can share a command line.

    Returns:
        dict of a dotted key to the reason, str.
    """
    name = flat["merge.name"]
    entries, weighting = parts_of(name)
    reason = f"merge.name={name} does not read it"
    found = {
        f"merge.{other}.{option}": reason
        for other in OPTIONS.keys() - {entries, weighting}
        for option in OPTIONS[other]
    }
    left = name if masks else without_masks(name)
    if parts_of(left)[1] != "sum" and not flat["merge.blocks"]:
        found["merge.image_loss_ratio"] = f"merge.name={left} does not read it"
    if entries not in MASKS:
        of_masks = [key for key in flat if key.startswith("merge.mask_")]
        found |= dict.fromkeys(of_masks, f"merge.name={name} has no masks")
    elif entries == "random_mask":
        found["merge.mask_rank"] = "merge.name=random_mask ranks at random"
    return found


def check(checks, given=frozenset(), variant=None):
    """Notes what is wrong with the `merge` section.

    Args:
        checks: `keras_vitbert.configs.checks.Requirements`.
        given: collection of str, the dotted keys that a command line sets.
        variant: `keras_vitbert.configs.variants.Variant`, or None.
    """
    flat = checks.flat
    checks.at_least(1, "merge.mask_update_interval")
    checks.must_be("in [0, 1]", "merge.image_loss_ratio", "merge.mask_ratio")
    checks.must_be("in (0, 1]", "merge.mask_ratio_per_update")
    checks.one_of("merge.mask_rank", RANKS)
    checks.one_of("merge.mask_scope", SCOPES)
    checks.one_of("merge.mask_target", TARGETS)
    checks.require_beside(
        lambda: flat["merge.mask_target"] == "gradient" or flat["optimizer.name"] == "adamw",
        "merge.mask_target",
        ("optimizer.name",),
        "needs optimizer.name=adamw, which has moments of two gradients",
    )
    softness = flat["merge.mask_softness"]
    checks.require(0 <= softness <= 0.5, "merge.mask_softness", "must be in [0, 0.5]")
    for wanted, names in _RANGES.items():
        checks.must_be(wanted, *(f"merge.{name}" for name in names))
    for bound, names in _AT_LEAST.items():
        checks.at_least(bound, *(f"merge.{name}" for name in names))
    try:
        entries, weighting = parts_of(flat["merge.name"])
    except ValueError as error:
        checks.require(False, "merge.name", str(error))
        return
    try:
        blocks = blocks_of(flat["merge.blocks"])
    except ValueError as error:
        checks.require(False, "merge.blocks", str(error))
        return
    layers = flat["model.num_layers"]
    if blocks and blocks[1] > layers:
        checks.require(False, "merge.blocks", f"must end at or before model.num_layers, {layers}")
    name = flat["merge.name"]
    if variant is not None and "merge.name" in given and not variant.masks and entries in MASKS:
        fix = f"--variant={variant.name} has no masks; take another, or {without_masks(name)}"
        checks.require(False, "merge.name", fix)
    for key in ("merge.blocks", "merge.per_block"):
        if flat[key] and weighting in OF_LOSSES:
            fix = f"merge.name={name} weighs whole losses, so leave it out"
            checks.require(False, key, fix)
    if flat["merge.per_block"] and weighting is None:
        checks.require(False, "merge.per_block", f"merge.name={name} has no weights, leave it out")
    for key, fix in unread(flat, variant is None or variant.masks).items():
        checks.require(key not in given, key, f"{fix}, leave it out")
