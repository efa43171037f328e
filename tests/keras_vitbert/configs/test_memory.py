"""What is refused for its size: only what cannot fit."""

import pytest

from keras_vitbert.configs import memory, paper
from keras_vitbert.configs.memory import parameters, require_memory, require_pretraining_memory
from keras_vitbert.configs.pretraining import with_sizes
from keras_vitbert.configs.variants import VARIANTS

GB = 10**9


@pytest.fixture
def machine(monkeypatch):
    """`machine(bytes)` of memory."""
    return lambda size: monkeypatch.setattr(memory, "all_memory", lambda: size)


def paper_model(size="base"):
    return with_sizes(paper.get_config(size)).model.to_dict()


@pytest.mark.parametrize(("images", "text"), [(True, True), (True, False), (False, True)])
def test_a_network_has_hardly_more_parameters(make_network, tiny, images, text):
    sizes = {"hidden_dim": 32, "intermediate_dim": 64, "vocabulary_size": 99}
    network = make_network(images=images, text=text, **sizes)
    estimate = parameters({**tiny, **sizes}, images, text)
    assert 0.7 * network.count_params() < estimate <= network.count_params()


def test_what_fits_is_not_refused(machine):
    """The base model has some 111 million parameters, which take 16 bytes each."""
    machine(2 * GB)
    require_memory(paper_model(), images=32, texts=4, text_length=512, classes=1000)
    machine(1.5 * GB)
    require_memory(paper_model(), images=32, texts=4, moments=None)
    with pytest.raises(ValueError, match=r"1\.\d GB, the largest .*; this machine has 1\.5 GB"):
        require_memory(paper_model(), images=32, texts=4)


def test_machines_share_a_step(machine):
    machine(20 * GB)
    with pytest.raises(ValueError, match="--config.image_batch=60000: is too large"):
        require_memory(paper_model(), images=60_000)
    require_memory(paper_model(), images=60_000, workers=4)


def test_where_the_weights_are(machine):
    machine(1 * GB)
    require_memory(paper_model("large"), images=8, texts=8, on="gpu")
    require_memory(paper_model("large"), images=8, texts=8, on="tpu")
    huge = {**paper_model(), "hidden_dim": 1 << 24}
    for on, message in (("gpu", "more than any machine has"), ("tpu", "no core of a TPU has more")):
        with pytest.raises(ValueError, match=f"^--config.model.hidden_dim=16777216: .*{message}"):
            require_memory(huge, images=8, on=on)


def test_devices_that_share_the_weights(machine):
    """Some 10 billion parameters take 160 GB."""
    machine(1 * GB)
    config = with_sizes(paper.get_config())
    config.model.update(hidden_dim=8192, intermediate_dim=32_768)

    def require(replicas):
        require_pretraining_memory(
            config, VARIANTS["vitbert"], workers=1, on="tpu", replicas=replicas
        )

    with pytest.raises(ValueError, match=r"no core of a TPU has more than 100\.0 GB"):
        require(2)
    config.sharding = "fsdp"
    require(2)
    config.model.num_layers *= 2
    with pytest.raises(ValueError, match=r"no 2 cores of a TPU have more than 200\.0 GB"):
        require(2)
    require(4)


@pytest.mark.parametrize("name", ["num_layers", "intermediate_dim", "image_size", "hidden_dim"])
def test_the_size_to_blame(name, machine):
    machine(100 * GB)
    model = {**paper_model(), name: 2**29}
    with pytest.raises(ValueError, match=f"^--config.model.{name}=536870912: is too large: "):
        require_memory(model, images=1)
    with pytest.raises(ValueError, match="^--mine=536870912: is too large: "):
        require_memory(model, images=1, flags={name: "--mine"})
