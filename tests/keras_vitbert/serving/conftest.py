"""Fixtures of the tests of serving: trained models of random weights, and one that is exported."""

import pytest

from pipelines.text.wordpiece import SPECIAL_TOKENS

VOCABULARY = [*SPECIAL_TOKENS, "the", "cat", "sat", "##s", ".", "[", "]"]  # the model has one more
CLASSES = ["dog", "été", "cat"]


@pytest.fixture(scope="session")
def make_trained(make_network):
    """`make_trained(*heads, seed=1, images=True, text=True) -> TrainedModel`."""
    from keras_vitbert.trained.trained_model import TrainedModel

    def make(*heads, seed=1, images=True, text=True):
        network = make_network(seed, images=images, text=text, num_layers=1)  # quick to trace
        known = {}
        if images:
            known["image"] = network.image_head
        if text:
            known.update(mlm=network.mlm_head, text=network.nsp_head)
        return TrainedModel(
            "runs/it",
            "vitbert",
            network.backbone,
            {name: known[name] for name in heads},
            CLASSES if "image" in heads else ["no", "yes"] if "text" in heads else None,
            VOCABULARY if text else None,
            central_crop=1.0,
        )

    return make


@pytest.fixture(scope="session")
def trained(make_trained):
    """As a run of `pretrain` leaves it."""
    return make_trained("image", "mlm")


@pytest.fixture(scope="session")
def classifier(make_trained):
    """As a run of `finetune` on text leaves it."""
    return make_trained("text", images=False)


@pytest.fixture(scope="session")
def embedder(make_trained):
    """A model of images without a head: what is quickest to export."""
    return make_trained(text=False)


@pytest.fixture(scope="session")
def served(trained):
    """`trained` as graphs; a graph is traced when it is called first."""
    from keras_vitbert.serving.served_model import ServedModel

    return ServedModel(trained, top_k=2)


@pytest.fixture(scope="session")
def served_classifier(classifier):
    from keras_vitbert.serving.served_model import ServedModel

    return ServedModel(classifier)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """The folder into which `trained` is exported as `vitbert`; leave it as it is."""
    from keras_vitbert.serving.exporting import export

    folder = tmp_path_factory.mktemp("served")
    export(trained, str(folder), top_k=2)
    return folder
