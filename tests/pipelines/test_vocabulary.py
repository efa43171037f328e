import pytest

from pipelines import command_line, vocabulary
from pipelines.text.documents import Document, Part, Unit, to_json
from pipelines.text.wordpiece import learn_vocabulary, read_vocabulary
from pipelines.vocabulary import spread
from tests.said import without_status


def test_spread():
    units = tuple(Unit((Part("file", 10 * n, 10 * n + 10),)) for n in range(100))
    assert spread(units, 0) == spread(units, 1000) == spread(units, 10**9) == units
    assert spread(units, 1) == (units[50],)
    for wanted in (20, 70, 330, 500, 990):
        chosen = [units.index(unit) for unit in spread(units, wanted)]
        assert len(chosen) == wanted // 10
        gaps = [b - a for a, b in zip([-1, *chosen], [*chosen, 100], strict=True)]
        assert min(gaps) >= 1 and max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1
        assert max(gaps[0], gaps[-1]) <= 1 + 100 / len(chosen)


@pytest.fixture(scope="module")
def paragraphs(paragraphs):
    """As many as these vocabularies need."""
    return paragraphs[:15]


@pytest.fixture
def corpus(tmp_path, paragraphs):
    (tmp_path / "docs").write_bytes(to_json(Document("", tuple(paragraphs))) + b"\n")
    return tmp_path


def command(folder, *flags):
    argv = [f"--documents={folder}/docs", f"--output={folder}/new/vocab.txt", "--size=200", *flags]
    return command_line.run(vocabulary.main, argv)


def test_command(corpus, paragraphs, capfd):
    tokens = learn_vocabulary(paragraphs, 200)
    path = corpus / "new" / "vocab.txt"
    assert command(corpus) == 0
    assert read_vocabulary(str(path)) == tokens
    err = capfd.readouterr().err
    assert "vocabulary: 200 tokens" in err

    assert command(corpus, "--size=150", "--cased") == 2
    [error] = without_status(capfd.readouterr().err)
    assert "already exists, and data" in error and "--overwrite" in error
    assert read_vocabulary(str(path)) == tokens
    assert command(corpus, "--size=150", "--cased", "--overwrite") == 0
    assert read_vocabulary(str(path)) == learn_vocabulary(paragraphs, 150, lower_case=False)
    assert [entry.name for entry in path.parent.iterdir()] == ["vocab.txt"]


def test_command_names_what_is_bad(corpus, capfd):
    def refused(*flags):
        assert command(corpus, *flags) == 2
        out, err = capfd.readouterr()
        [error] = without_status(err)
        assert not out
        return error

    assert "cannot be written to" in refused("--output=/proc/nowhere/vocab.txt")
    before = (corpus / "docs").read_bytes()
    assert "would overwrite" in refused(f"--output={corpus}/docs", "--overwrite")
    assert (corpus / "docs").read_bytes() == before
    with open(corpus / "docs", "ab") as file:
        file.write(b"{]\n")
    assert "docs: the line at byte" in refused()
    assert not list((corpus / "new").iterdir())
    assert command(corpus, "--skip_damaged=1", "--size=100") == 0
    capfd.readouterr()
    (corpus / "docs").write_bytes(to_json(Document("", ("a b",))))
    assert command(corpus, "--overwrite") == 0
    assert "the text yields no more; " in capfd.readouterr().err
