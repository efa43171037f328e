"""Whether a vocabulary's texts are lower-cased: as recorded, or by one rule.

The case is recorded where it is decided: `pipelines.text_examples` writes it into the manifest of
its examples. `pretrain` copies it from there into its config as `data.case`, and later readers of
texts take it from the run. Vocabularies from elsewhere have no record.
"""

from pipelines.command_line import say
from pipelines.text.wordpiece import cased_token

AUTO, LOWER, CASED = CASES = ("auto", "lower", "cased")


def case_of(where, vocabulary, wanted=AUTO, recorded=None):
    """The case of texts for a vocabulary. If it is not given, the rule decides, and a note says so.

    Args:
        where: str, where the vocabulary comes from, for messages.
        vocabulary: list of str.
        wanted: str, one of `CASES`, of `--config.data.case`.
        recorded: `LOWER`, `CASED`, or None.

    Returns:
        `LOWER` or `CASED`.

    Raises:
        ValueError: `wanted` is not what is recorded.
    """
    if recorded:
        if wanted not in (AUTO, recorded):
            raise ValueError(
                f"--config.data.case={wanted}: {where} says {recorded}; leave it out, or all that "
                "differs becomes [UNK]"
            )
        return recorded
    if wanted != AUTO:
        return wanted
    token = cased_token(vocabulary)
    if token:
        say(f"{where}: has {token!r}, so texts keep their case (or --config.data.case=lower)")
        return CASED
    say(f"{where}: has no upper case, so texts are lower-cased (or --config.data.case=cased)")
    return LOWER


def case_name(lower_case):
    """The name of a case.

    Args:
        lower_case: bool.

    Returns:
        `LOWER` or `CASED`.
    """
    return LOWER if lower_case else CASED


def is_lower(case, vocabulary):
    """Whether texts are lower-cased.

    Args:
        case: str, one of `CASES`; for `AUTO`, as in runs of older versions, the rule decides.
        vocabulary: list of str.
    """
    return cased_token(vocabulary) is None if case == AUTO else case == LOWER


def recorded_case(manifests):
    """The case recorded in manifests of examples.

    Args:
        manifests: dict of path to content, see `shard_manifest`.

    Returns:
        `LOWER`, `CASED`, or None if they do not say.

    Raises:
        ValueError: they differ.
    """
    found = {}
    for path, manifest in manifests.items():
        lower = manifest["settings"].get("lower_case")
        if isinstance(lower, bool):
            found.setdefault(case_name(lower), path)
    if len(found) > 1:
        raise ValueError(
            f"{found[LOWER]}: these texts are lower-cased, those of {found[CASED]} are not; "
            "rewrite them with one vocabulary"
        )
    return next(iter(found), None)
