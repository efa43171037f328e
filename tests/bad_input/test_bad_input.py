"""Every row of the table of bad input, in this process."""

import pytest

from tests.bad_input import places, table
from tpu import addresses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return places.write(tmp_path_factory.mktemp("bad") / "input")


@pytest.mark.parametrize("line", table.ROWS)
def test_one_line_and_nothing_left_behind(line, folder, monkeypatch, capfd):
    monkeypatch.setattr(addresses, "CHIPS", ())
    for name, value in table.ALONE.items():
        monkeypatch.setenv(name, value)
    outcome = table.run(line, table.ROWS[line], folder, capfd.readouterr)
    assert not outcome.problem


def test_the_table_is_large_and_has_all_commands():
    assert len(table.ROWS) >= 250
    commands = {next(word for word in line.split() if "=" not in word) for line in table.ROWS}
    for package, names in (
        ("keras_vitbert", "pretrain finetune predict export convert figures demo aot"),
        ("pipelines", "wikipedia books vocabulary text_examples imagenet manifest sample"),
        ("tpu", "worker"),
    ):
        for name in names.split():
            assert f"{package}.{name}" in commands
