"""Whether a vocabulary's texts are lower-cased: as recorded, or by one rule.

The case is recorded where it is decided: `pipelines.text_examples` writes it into the manifest of
its examples. `pretrain` copies it from there into its config as `data.case`, and later readers of
texts take it from the run. Vocabularies from elsewhere have no record.
"""

from pipelines.command_line import say
from pipelines.text.wordpiece import cased_token

AUTO, LOWER, CASED = CASES = ("auto", "lower", "cased")


def case_of(
    where: str, vocabulary: list[str], wanted: str = AUTO, recorded: str | None = None
) -> str:
    """`LOWER` or `CASED` for a vocabulary from `where`: as recorded, as wanted, or by the rule."""
    if recorded:
        if wanted not in (AUTO, recorded):
            raise ValueError(
                f"data.case is {wanted}, but {where} says {recorded}: what differs would become "
                "[UNK]"
            )
        return recorded
    if wanted != AUTO:
        return wanted
    token = cased_token(vocabulary)
    if token:
        say(f"{where}: has {token!r}, so texts keep their case (or set data.case to lower)")
        return CASED
    say(f"{where}: has no upper case, so texts are lower-cased (or set data.case to cased)")
    return LOWER


def case_name(lower_case: bool) -> str:
    """`LOWER` or `CASED`."""
    return LOWER if lower_case else CASED


def is_lower(case: str, vocabulary: list[str]) -> bool:
    """Whether texts are lower-cased; for `AUTO` the rule decides."""
    return cased_token(vocabulary) is None if case == AUTO else case == LOWER


def recorded_case(manifests: dict[str, dict]) -> str | None:
    """The case recorded in manifests of examples, by path; None if they do not say."""
    cases: dict[str, str] = {}
    for path, manifest in manifests.items():
        lower = manifest["settings"].get("lower_case")
        if isinstance(lower, bool):
            cases.setdefault(case_name(lower), path)
    if len(cases) > 1:
        raise ValueError(
            f"{cases[LOWER]}: these texts are lower-cased, those of {cases[CASED]} are not"
        )
    return next(iter(cases), None)
