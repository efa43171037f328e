"""Whether texts are lower-cased: as recorded, as asked for, or by the rule."""

import pytest

from pipelines.text.casing import AUTO, CASED, LOWER, case_of, is_lower, recorded_case

UNCASED_TOKENS, CASED_TOKENS = ["[UNK]", "word"], ["[UNK]", "word", "Word"]


@pytest.mark.parametrize("tokens", [UNCASED_TOKENS, CASED_TOKENS])
def test_what_is_recorded_counts(tokens, capsys):
    for case in (LOWER, CASED):
        assert case_of("run", tokens, AUTO, case) == case_of("run", tokens, case, case) == case
        assert is_lower(case, tokens) == (case == LOWER)
    with pytest.raises(ValueError, match="data.case is cased.* run says lower"):
        case_of("run", tokens, CASED, LOWER)
    assert not capsys.readouterr().err


def test_without_a_record_what_is_asked_for_counts_and_else_the_rule_which_is_told(capsys):
    assert case_of("v", UNCASED_TOKENS, CASED) == CASED
    assert not capsys.readouterr().err
    for tokens, case in ((UNCASED_TOKENS, LOWER), (CASED_TOKENS, CASED)):
        assert case_of("v.txt", tokens) == case and is_lower(AUTO, tokens) == (case == LOWER)
        assert capsys.readouterr().err.startswith("v.txt: has ")


def test_manifests_say_it():
    def manifests(*cases):
        settings = [{} if case is None else {"lower_case": case} for case in cases]
        return {f"m{n}": {"settings": each} for n, each in enumerate(settings)}

    assert recorded_case(manifests(None, None)) is None
    assert recorded_case(manifests(None, True)) == LOWER
    with pytest.raises(ValueError, match="m1: these texts are lower-cased, those of m0 are not"):
        recorded_case(manifests(False, True))
