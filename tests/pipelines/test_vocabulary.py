import pytest

from pipelines import command_line, vocabulary
from pipelines.text.documents import Document, Part, Unit, to_json
from pipelines.text.wordpiece import learn_vocabulary, read_vocabulary
from pipelines.vocabulary import spread


@pytest.fixture
def corpus(tmp_path, paragraphs):
    (tmp_path / "docs").write_bytes(to_json(Document("", tuple(paragraphs[:15]))) + b"\n")
    return tmp_path


def command(folder, *flags):
    argv = [f"--documents={folder}/docs", f"--output={folder}/new/vocab.txt", "--size=200", *flags]
    return command_line.run(vocabulary.main, argv)


def test_command(corpus, paragraphs, capfd):
    path = corpus / "new" / "vocab.txt"
    assert command(corpus) == 0
    tokens = learn_vocabulary(paragraphs[:15], 200)
    assert read_vocabulary(str(path)) == tokens
    assert command(corpus, "--size=150", "--cased") == 2
    assert f"{path}: already exists" in capfd.readouterr().err
    assert read_vocabulary(str(path)) == tokens
    assert command(corpus, "--size=150", "--cased", "--overwrite") == 0
    tokens = learn_vocabulary(paragraphs[:15], 150, lower_case=False)
    assert read_vocabulary(str(path)) == tokens


def test_damaged_documents_are_named_or_left_out_and_never_overwritten(corpus, capfd):
    assert command(corpus, f"--output={corpus}/docs", "--overwrite") == 2
    with open(corpus / "docs", "ab") as file:
        file.write(b"{]\n")
    assert command(corpus) == 2
    first, second = (line for line in capfd.readouterr().err.splitlines() if "error: " in line)
    assert "would overwrite" in first and "docs: the line at byte" in second
    assert command(corpus, "--skip_damaged=1", "--size=100") == 0


def test_a_sample_is_evenly_spread():
    units = tuple(Unit((Part("file", 10 * n, 10 * n + 10),)) for n in range(100))
    assert spread(units, 0) == spread(units, 1000) == units and spread(units, 1) == (units[50],)
    chosen = [units.index(unit) for unit in spread(units, 330)]
    gaps = {b - a for a, b in zip(chosen, chosen[1:], strict=False)}
    assert len(chosen) == 33 and gaps <= {3, 4}
