"""Digests tell other content, and only that."""

import shutil
from typing import Any

import numpy as np
import pytest

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.runs.provenance import data_digest, model_digest, weights_sha256
from keras_vitbert.training.distillation import Teacher
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import write_shards

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
        {"layer_norm_epsilon": 1e-2},
        {"heads": {"mlm": {**BERT_HEAD, "activation": "tanh"}}},
        {"dropout": 0.3},
        {"name": "other"},
    ],
)
def test_models_are_told_apart_by_their_answers(network, change):
    other = network_of(**change)
    assert weights_sha256(other) == weights_sha256(network)
    is_same = np.array_equal(answers(other), answers(network))
    assert (model_digest(other) == model_digest(network)) == is_same


def test_a_model_is_the_same_in_another_dtype_and_as_a_teacher(network):
    """Both are settings of the run that uses it."""
    wanted = model_digest(network)
    assert model_digest(network_of(dtype="mixed_bfloat16")) == wanted
    assert model_digest(Teacher(network, 5)) == wanted


@pytest.fixture
def shards(tmp_path):
    """Three files of records, without a manifest."""
    write_shards([bytes([n]) * 5_000 for n in range(60)], str(tmp_path / "d"), 3)
    (tmp_path / "d.manifest.json").unlink(missing_ok=True)
    return tmp_path


def records(folder, **options):
    return RecordFiles.find(f"{folder}/d-*", **options)


def test_records_are_told_apart_by_their_content(shards, tmp_path_factory):
    before = data_digest(records(shards))
    moved = shutil.copytree(shards, tmp_path_factory.mktemp("moved") / "there")
    assert data_digest(records(moved)) == before
    for offset in (200, -200):  # within the payload of the first and of the last record
        file = moved / "d-00001-of-00003"
        data = bytearray(file.read_bytes())
        data[offset] ^= 1
        file.write_bytes(data)
        assert records(moved).sha256 != records(shards).sha256
        shutil.copy(shards / file.name, file)
    (moved / "d-00001-of-00003").rename(moved / "swap")
    (moved / "d-00002-of-00003").rename(moved / "d-00001-of-00003")
    (moved / "swap").rename(moved / "d-00002-of-00003")
    assert data_digest(records(moved)) != before


@pytest.mark.parametrize("manifest", [True, False])
def test_what_lies_between_the_ends_counts(tmp_path, manifest):
    """By the manifest's checksums, without one by those of the records."""

    def write(middle):
        content = [bytes([n]) * 50_000 for n in range(6)]
        content[3] = middle * 50_000
        write_shards(content, str(tmp_path / "d"), 1)
        if not manifest:
            (tmp_path / "d.manifest.json").unlink(missing_ok=True)
        return records(tmp_path)

    one, other = write(b"x"), write(b"y")
    assert one.sha256 == other.sha256 and data_digest(one) != data_digest(other)
    assert data_digest(records(tmp_path)) == data_digest(other)
