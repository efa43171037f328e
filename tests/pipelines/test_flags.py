import pytest

from pipelines.flags import asks_for_help, define_flags, parse_flags, parse_known_flags


@pytest.fixture
def values():
    return define_flags(
        ("size", 7, "How large.", 1), ("output", None, "Where to."), ("cased", False, "Upper case.")
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--sise=3"], "Unknown command line flag 'sise'. Did you mean: size ?"),
        (["--size=0"], "--size=0"),
        (["stray", "--size=3"], "unexpected argument 'stray'"),
    ],
)
def test_bad_flags_are_one_line(values, argv, message):
    with pytest.raises(ValueError) as caught:
        parse_flags(values, argv, "usage")
    text = str(caught.value)
    assert message in text and text.endswith("; --help lists the flags") and "\n" not in text


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_numbers_are_finite(value):
    values = define_flags(("megabytes", 8.0, "How much.", None))
    with pytest.raises(ValueError, match=f"^--megabytes={value}: must be finite"):
        parse_flags(values, [f"--megabytes={value}"], "usage")


@pytest.mark.parametrize("argv", [["--help"], ["stray", "--size=x", "-h"]])
def test_help_comes_before_anything_else(values, capsys, argv):
    assert asks_for_help(argv) and not asks_for_help(["--size", "h"])
    with pytest.raises(SystemExit) as caught:
        parse_flags(values, argv, "\nHow it is used.\n")
    assert caught.value.code == 0
    usage, empty, title, *lines = capsys.readouterr().out.splitlines()
    assert (usage, empty, title) == ("How it is used.", "", "Flags:")
    text = "\n".join(lines)
    for part in ("--size: How large.", "(default: '7')", "--output: Where to.", "[no]cased"):
        assert part in text
    assert not any(name in text for name in ("--help", "flagfile", "undefok"))
    assert all(line.startswith(" ") for line in lines)


def test_a_part_of_the_flags_leaves_the_rest_in_order(values):
    argv = ["--config.steps=3", "stray", "--size=2", "--help", "--cased", "--x", "y"]
    rest = ["--config.steps=3", "stray", "--help", "--x", "y"]
    assert parse_known_flags(values, argv) == rest
    assert values.size == 2 and values.cased
    with pytest.raises(ValueError, match="--size=0.*; --help lists the flags$"):
        parse_known_flags(values, ["--size=0"])
