"""What a run is made of: digests tell other content, and only that; changes are refused or kept."""

import json
import shutil
import subprocess
from typing import Any

import keras
import numpy as np
import pytest

from keras_vitbert.configs import sample
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.runs import identity
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_settings import RunSettings, check_inputs
from keras_vitbert.training.distillation import Teacher
from pipelines.shards.records import RecordFiles
from pipelines.shards.tfrecords import write_shards
from tests.keras_vitbert.tiny_runs import content_of


def begin(folder, inputs, accepted=(), records=None, **changes):
    config = sample.get_config()
    config.update(changes)
    about, records = {"variant": "joint"}, records or {}
    settings = RunSettings(about, config, ["a"], records, inputs=inputs, accepted=accepted)
    settings.begin(RunFolder(str(folder)))


def record(folder):
    return content_of(folder / "config.json")


FIRST, OTHER = ({"path": f"/{n}", "sha256": n * 64} for n in "ab")


def test_other_content_is_refused_and_other_paths_are_not(tmp_path):
    begin(tmp_path, {"texts": FIRST, "images": OTHER})
    begin(tmp_path, {"texts": {**FIRST, "path": "/moved"}, "images": OTHER})
    before = record(tmp_path)
    message = (
        r"holds a run with other texts: sha256 a{12} of /a, not sha256 b{12} of /b; give what it "
        r"began with, or another --output_dir, or accept the change with --accept_changes=texts$"
    )
    with pytest.raises(ValueError, match=message):
        begin(tmp_path, {"texts": OTHER, "images": OTHER})
    with pytest.raises(ValueError, match="other texts"):
        begin(tmp_path, {"texts": OTHER, "images": FIRST}, accepted=["images"])
    assert record(tmp_path) == before


@pytest.mark.parametrize(
    ("free", "may_change"),
    [
        (identity.FREE_OF_PRETRAINING, []),
        (identity.FREE_OF_FINE_TUNING, ["learning_rate"]),  # a trial is named by it
    ],
)
def test_no_setting_of_the_optimizer_may_change(tmp_path, free, may_change):
    config, folder = sample.get_config(), RunFolder(str(tmp_path))
    RunSettings({"variant": "joint"}, config, None, {}, free).begin(folder)
    for name, value in config.optimizer.items():
        changed = config.copy_and_resolve_references()
        changed.optimizer[name] = value * 2 or value + 1
        settings = RunSettings({"variant": "joint"}, changed, None, {}, free)
        if name in may_change:
            settings.begin(folder)
        else:
            with pytest.raises(ValueError, match=f"a run with config.optimizer.{name}="):
                settings.begin(folder)


def test_accepted_changes_are_told_and_kept(tmp_path, capsys):
    begin(tmp_path, {"texts": FIRST}, records={"texts": 3})
    accepted = ["texts", "config.seed"]
    begin(tmp_path, {"texts": OTHER}, accepted, {"texts": 4}, seed=5)
    told = capsys.readouterr().err
    assert "resumes with other texts: sha256 bbbbbbbbbbbb of /b, instead of sha256 a" in told
    assert "resumes with config.seed=5; it was 0" in told
    begin(tmp_path, {"texts": OTHER}, records={"texts": 4}, seed=5)
    changes = record(tmp_path)["accepted_changes"]
    assert changes == [
        {"key": "config.seed", "was": 0, "is": 5},
        {"input": "texts", "was": FIRST, "is": OTHER},
    ]
    with pytest.raises(ValueError, match="other texts"):
        begin(tmp_path, {"texts": FIRST}, records={"texts": 4}, seed=5)
    RunFolder(str(tmp_path)).finish({"steps": 1})
    summary = content_of(tmp_path / "summary.json")
    assert summary["inputs"] == {"texts": OTHER} and summary["accepted_changes"] == changes
    assert summary["versions"] == identity.versions()


def test_accepted_data_may_have_another_number_of_records(tmp_path):
    begin(tmp_path, {"texts": FIRST}, records={"texts": 3})
    begin(tmp_path, {"texts": OTHER}, ["texts"], {"texts": 4})
    begin(tmp_path, {"texts": OTHER}, records={"texts": 4})
    assert record(tmp_path)["records"] == {"texts": 4}
    with pytest.raises(ValueError, match="holds a run on 4 texts, not 3"):
        begin(tmp_path, {"texts": OTHER}, records={"texts": 3})


def test_initial_weights_may_not_change_once_a_run_has_begun(tmp_path):
    begin(tmp_path, {"initial_weights": FIRST})
    with pytest.raises(ValueError, match=r"give what it began with, or another --output_dir$"):
        begin(tmp_path, {"initial_weights": OTHER}, ["initial_weights"])
    message = "began with random weights; leave --initial_weights out, or give another"
    with pytest.raises(ValueError, match=message):
        identity.require_weights_at_start("x", {"inputs": {"texts": FIRST}})
    identity.require_weights_at_start("x", record(tmp_path))
    # Nothing of it is known of a run that has not begun, or is of an older version.
    older = {"initial_weights": "runs/other"}
    for known in ({}, {"variant": "joint"}, older, {**older, "inputs": {"texts": FIRST}}):
        identity.require_weights_at_start("x", known)


def test_new_inputs_are_kept_and_those_of_flags_must_be_given_again(tmp_path):
    folder = RunFolder(str(tmp_path))
    begin(tmp_path, {})
    check_inputs(folder, {"image_teacher": FIRST})
    assert record(tmp_path)["inputs"] == {"image_teacher": FIRST}
    with pytest.raises(ValueError, match="other image_teacher"):
        check_inputs(folder, {"image_teacher": OTHER})
    known = record(tmp_path)["inputs"]
    with pytest.raises(ValueError, match="began with --image_teacher=/a; give that again"):
        identity.require_given("runs/x", known, {}, ["image_teacher"])
    identity.require_given("runs/x", known, {}, ["text_teacher"])
    identity.require_given("runs/x", known, {"image_teacher": OTHER}, ["image_teacher"])
    identity.require_given("runs/x", known, {}, ["image_teacher"], ["image_teacher"])
    own = {"image_teacher": {**FIRST, "path": None}}  # the run has made it, and will find it
    identity.require_given("runs/x", own, {}, ["image_teacher"])


def test_a_run_of_before_there_were_digests_goes_on(tmp_path, capsys):
    begin(tmp_path, {"texts": FIRST})
    old = record(tmp_path)
    del old["inputs"], old["versions"]
    old["initial_weights"] = "runs/other"
    (tmp_path / "config.json").write_text(json.dumps(old))
    begin(tmp_path, {"texts": OTHER})
    assert "comes from an older version, which recorded no digests" in capsys.readouterr().err
    with pytest.raises(ValueError, match="other texts"):
        begin(tmp_path, {"texts": FIRST})


def test_a_run_whose_logits_were_rounded_is_not_gone_on_with(tmp_path):
    begin(tmp_path / "float32", {}, dtype="float32")
    begin(tmp_path / "mixed", {}, dtype="mixed_bfloat16")
    for folder in (tmp_path / "float32", tmp_path / "mixed"):
        begin(folder, {}, dtype=record(folder)["config"]["dtype"])
        old = record(folder)
        assert old.pop("numerics") == identity.NUMERICS
        (folder / "config.json").write_text(json.dumps(old))
    begin(tmp_path / "float32", {}, dtype="float32")  # whose numbers are the same
    with pytest.raises(
        ValueError, match="rounded logits to bfloat16; finish it with keras-vitbert"
    ):
        begin(tmp_path / "mixed", {}, dtype="mixed_bfloat16")


def test_other_versions_are_told(tmp_path, capsys):
    begin(tmp_path, {})
    old = record(tmp_path)
    assert old["versions"]["keras"] == keras.__version__
    old["versions"] |= {"tensorflow": "2.19.0", "python": "3.10.1"}
    (tmp_path / "config.json").write_text(json.dumps(old))
    capsys.readouterr()
    begin(tmp_path, {})
    [line] = capsys.readouterr().err.splitlines()
    now = identity.versions()
    assert line == (
        f"{tmp_path} began with python 3.10.1, now {now['python']}; tensorflow 2.19.0, now "
        f"{now['tensorflow']}: its numbers may not match to the bit"
    )


def test_all_that_computes_is_told_of(tmp_path, capsys, monkeypatch):
    """But what an older version did not record, and the packages of another backend."""
    begin(tmp_path, {})
    old = record(tmp_path)
    names = {"keras_vitbert", "commit", "python", "tensorflow", "keras", "keras_hub", "numpy"}
    assert old["versions"].keys() >= names | {"tensorflow_text"}
    del old["versions"]["keras_hub"]
    was = old["versions"] = dict.fromkeys(old["versions"], "0.0")
    (tmp_path / "config.json").write_text(json.dumps(old))
    capsys.readouterr()
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    begin(tmp_path, {})
    [line] = capsys.readouterr().err.splitlines()
    now = identity.versions()
    assert all(f"{name} 0.0, now {now[name]}" in line for name in was) and "keras_hub" not in line
    assert "TF_ENABLE_ONEDNN_OPTS 0.0, now 0" in line


def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch):
    def git(*arguments):
        names = "-c", "user.name=x", "-c", "user.email=x"
        found = subprocess.run(
            ["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return found.stdout.strip()

    package = tmp_path / "keras_vitbert"
    package.mkdir()
    file, other = package / "identity.py", tmp_path / "notes"
    monkeypatch.setattr(identity, "__file__", str(file))
    commit = identity.commit.__wrapped__
    file.write_text("1")
    assert commit() == ""
    git("init")
    other.write_text("1")
    git("add", "notes")
    git("commit", "-m", "notes")
    assert commit() == ""  # an environment in a checkout of something else
    git("add", ".")
    git("commit", "-m", "package")
    head = git("rev-parse", "HEAD")
    assert commit() == head
    other.write_text("2")
    assert commit() == head
    file.write_text("2")
    assert commit() == f"{head}+"
    monkeypatch.setenv("PATH", "")
    assert commit() == ""


def test_a_step_that_computes_activations_again_is_told(tmp_path, capsys):
    def told(remat):
        begin(tmp_path, {}, remat=remat)
        return [line for line in capsys.readouterr().err.splitlines() if "remat" in line]

    assert told(False) == told(False) == []
    [line] = told(True)
    assert line.startswith(f"{tmp_path} began without remat and resumes with remat")
    assert record(tmp_path)["config"]["remat"] is False


@pytest.mark.parametrize("content", [b"b\n", b"", b"\xff", None])
def test_a_damaged_vocabulary_of_a_run_is_named(tmp_path, content):
    begin(tmp_path, {})
    file = tmp_path / "vocabulary.txt"
    file.write_bytes(b"a\r\n")
    begin(tmp_path, {})  # an editor has changed the ends of lines
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    before = record(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}/vocabulary.txt"):
        begin(tmp_path, {})
    assert record(tmp_path) == before and file.exists() == (content is not None)


def test_other_replicas_are_told(tmp_path, capsys):
    folder, config = RunFolder(str(tmp_path)), sample.get_config()
    for replicas in (1, 1, 4):
        RunSettings({"variant": "joint"}, config, ["a"], {}, replicas=replicas).begin(folder)
    assert record(tmp_path)["replicas"] == folder.finish({})["replicas"] == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"{tmp_path} began on 1 replica and resumes on 4: batches and dropout are the same, the "
        "last digits are not"
    )
    old = record(tmp_path)
    del old["replicas"]  # of an older version
    (tmp_path / "config.json").write_text(json.dumps(old))
    RunSettings({"variant": "joint"}, config, ["a"], {}, replicas=4).begin(folder)
    assert not capsys.readouterr().err


def test_another_generator_of_dropout_is_told(tmp_path, capsys):
    folder, config = RunFolder(str(tmp_path)), sample.get_config()

    def begin(generator):
        about, drawn = {"variant": "joint"}, {"dropout_generator": generator}
        RunSettings(about, config, ["a"], {}, **drawn).begin(folder)
        return capsys.readouterr().err

    assert not begin("philox16") and not begin("philox16")
    assert begin("threefry") == (
        f"{tmp_path} drew dropout with philox16, and resumes with threefry: different "
        "units are dropped\n"
    )
    old = record(tmp_path)
    del old["dropout_generator"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    told = begin("philox16")
    assert "dropout by replica, as older versions do, and resumes with philox16: " in told
    assert not begin("")  # without dropout


def test_weights_are_told_apart_by_their_values_alone():
    def model(value):
        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        layer.kernel.assign(np.full((3, 2), value))
        return layer

    one, other = (identity.weights_sha256(model(1.0)) for _ in range(2))
    assert one == other
    assert one != identity.weights_sha256(model(np.nextafter(1.0, 2, dtype="float32")))


MODEL = {"num_layers": 2, "num_heads": 2, "hidden_dim": 4, "intermediate_dim": 8}
MODEL |= {"image_size": 4, "patch_size": 2, "vocabulary_size": 7, "max_sequence_length": 5}
BERT_HEAD = {"kind": "bert", "activation": "gelu", "layer_norm_epsilon": 1e-12}
HEADS = {"image": "paper", "mlm": BERT_HEAD, "nsp": "paper"}


def network_of(heads=None, dtype=None, **changes):
    """A network whose weights are the same whatever changes."""
    options: Any = {**MODEL, "dtype": dtype, **changes}
    network = PreTrainingNetwork(ViTBertBackbone(**options), 3, HEADS | (heads or {}))
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(size=w.shape).astype("float32") for w in network.weights])
    return network


def answers(network):
    rng = np.random.default_rng(1)
    inputs = {
        "images": rng.random((2, 4, 4, 3), "float32"),
        "token_ids": rng.integers(0, 7, (2, 5)),
        "segment_ids": np.zeros((2, 5), "int32"),
        "padding_mask": np.ones((2, 5), "int32"),
        "masked_positions": np.array([[1, 2], [3, 4]]),
    }
    return np.concatenate([np.ravel(logits) for logits in network(inputs).values()])


@pytest.fixture(scope="module")
def network():
    return network_of()


@pytest.mark.parametrize(
    "change",
    [
        {"image_mean": (0.1, 0.2, 0.3)},
        {"image_std": (0.1, 0.2, 0.3)},
        {"activation": "relu"},
        {"layer_norm_epsilon": 1e-2},
        {"embedding_scale": 3.0},
        {"heads": {"image": "bert"}},
        {"heads": {"nsp": "distilbert"}},
        {"heads": {"mlm": {**BERT_HEAD, "activation": "tanh"}}},
        {"heads": {"mlm": {**BERT_HEAD, "layer_norm_epsilon": 1e-2}}},
        {"dropout": 0.3},
        {"attention_dropout": 0.3},
        {"stochastic_depth": 0.3},
        {"name": "other"},
        {},
    ],
)
def test_models_are_told_apart_by_their_answers(network, change):
    other = network_of(**change)
    assert identity.weights_sha256(other) == identity.weights_sha256(network)
    is_same = np.array_equal(answers(other), answers(network))
    one = identity.model_input(network, "there")
    assert (identity.model_input(other)["sha256"] == one["sha256"]) == is_same
    assert one["path"] == "there"


def test_a_model_is_the_same_in_another_dtype_and_as_a_teacher(network):
    """Both are settings of the run that uses it."""
    wanted = identity.model_input(network)
    assert identity.model_input(network_of(dtype="mixed_bfloat16")) == wanted
    assert identity.model_input(Teacher(network, 5)) == wanted


@pytest.fixture
def shards(tmp_path):
    """Three files of records, without a manifest."""
    write_shards([bytes([n]) * 5_000 for n in range(60)], str(tmp_path / "d"), 3)
    (tmp_path / "d.manifest.json").unlink(missing_ok=True)
    return tmp_path


def found(folder):
    return identity.data_input(RecordFiles.find(f"{folder}/d-*", "x"))


def test_records_are_told_apart_by_their_content(shards, tmp_path_factory):
    before = found(shards)
    moved = tmp_path_factory.mktemp("moved") / "there"
    shutil.copytree(shards, moved)
    assert found(moved) == before
    for offset in (200, -200):  # within the payload of the first and of the last record
        file = moved / "d-00001-of-00003"
        data = bytearray(file.read_bytes())
        data[offset] ^= 1
        file.write_bytes(data)
        assert found(moved)["sha256"] != before["sha256"]
        shutil.copy(shards / file.name, file)
    (moved / "d-00001-of-00003").rename(moved / "swap")
    (moved / "d-00002-of-00003").rename(moved / "d-00001-of-00003")
    (moved / "swap").rename(moved / "d-00002-of-00003")
    assert found(moved)["sha256"] != before["sha256"]


def test_checksums_tell_what_lies_between_the_ends(tmp_path):
    """Where there is no manifest; and the same with records that are looked through for damage."""

    def write(middle):
        records = [bytes([n]) * 50_000 for n in range(6)]
        records[3] = middle * 50_000
        write_shards(records, str(tmp_path / "d"), 1)
        (tmp_path / "d.manifest.json").unlink(missing_ok=True)
        return found(tmp_path)

    one, other = write(b"x"), write(b"y")
    assert one["sha256"] == other["sha256"]
    assert one["checksums_sha256"] != other["checksums_sha256"]
    with pytest.raises(ValueError, match="other texts"):
        identity.compare_inputs("here", {"texts": one}, {"texts": other})
    before = {key: one[key] for key in ("path", "sha256")}  # of a version without checksums
    assert identity.compare_inputs("here", {"texts": before}, {"texts": other}) == []
    records = RecordFiles.find(f"{tmp_path}/d-*", "x", salvage=True)
    again = RecordFiles.from_json(json.loads(json.dumps(records.to_json())))
    assert again.without({0: "bad"}).checksums_sha256 == other["checksums_sha256"]


def test_a_manifest_tells_what_lies_between_the_ends(tmp_path):
    def write(middle):
        records = [bytes([n]) * 50_000 for n in range(6)]
        records[3] = middle * 50_000
        write_shards(records, str(tmp_path / "d"), 1)
        return found(tmp_path)

    one, other = write(b"x"), write(b"y")
    assert one["sha256"] == other["sha256"] and one["manifest_sha256"] != other["manifest_sha256"]
    with pytest.raises(ValueError, match="other texts"):
        identity.compare_inputs("here", {"texts": one}, {"texts": other})
    (tmp_path / "d.manifest.json").unlink()  # what cannot be compared is not
    assert identity.compare_inputs("here", {"texts": one}, {"texts": found(tmp_path)}) == []


def test_a_step_that_is_compiled_otherwise_is_told(tmp_path, capsys):
    def told(jit_compile):
        begin(tmp_path, {}, jit_compile=jit_compile)
        return [line for line in capsys.readouterr().err.splitlines() if "XLA" in line]

    assert told("off") == told("off") == []
    assert told("on") == [
        f"{tmp_path} began not compiled by XLA and resumes compiled by XLA: the last digits are "
        "not the same"
    ]
    assert record(tmp_path)["config"]["jit_compile"] == "off"
    # An older version had no such key.
    older = record(tmp_path)
    del older["config"]["jit_compile"]
    RunFolder(str(tmp_path)).write_json("config.json", older)
    assert told("on") == told("off") == []
