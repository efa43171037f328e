import pytest

from pipelines.flags import define_flags, parse_flags, parse_known_flags


@pytest.fixture
def values():
    flags = ("size", 7, "How large.", 1), ("share", 0.5, "How much.", None), ("cased", False, "Is.")
    return define_flags(*flags)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sise=3"], "'sise'. Did you mean: size ?"),
        (["--size=0"], "--size=0"),
        (["stray", "--size=3"], "unexpected argument 'stray'"),
        (["--share=nan"], "--share=nan: must be finite"),
    ],
)
def test_bad_flags_are_one_line(values, argv, message):
    with pytest.raises(ValueError) as caught:
        parse_flags(values, argv, "usage")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_of_the_flags_leaves_the_rest_in_order(values):
    argv = ["--config.steps=3", "stray", "--size=2", "--help", "--cased", "--x", "y"]
    rest = ["--config.steps=3", "stray", "--help", "--x", "y"]
    assert parse_known_flags(values, argv) == rest
    assert values.size == 2 and values.cased
