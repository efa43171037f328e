"""Fixtures of several packages: a tiny network with random weights, batches, and served models."""

import shutil

import numpy as np
import pytest

TINY = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "image_size": 6,
    "patch_size": 3,
    "vocabulary_size": 13,
    "max_sequence_length": 7,
    "num_classes": 3,
    "dropout": 0.0,
}
PREDICTIONS = 3


@pytest.fixture(scope="session")
def tiny():
    """The `model` section of a config: the smallest model that has everything."""
    return dict(TINY)


@pytest.fixture(scope="session")
def randomize():
    """`randomize(model, seed) -> model`: weights all random, biases and norms too."""

    def randomize(model, seed):
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            offset = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(offset + rng.normal(0, 0.4, variable.shape))
        return model

    return randomize


@pytest.fixture(scope="session")
def make_network(tiny, randomize):
    """`make_network(seed=0, dtype=None, images=True, text=True, **model) -> network`."""
    from keras_vitbert.model.pretraining_network import build_network

    def make(seed=0, dtype=None, images=True, text=True, **model):
        network = build_network({**tiny, **model}, images=images, text=text, dtype=dtype)
        return randomize(network, seed)

    return make


@pytest.fixture(scope="session")
def network(make_network):
    """A tiny network for tests that leave it as it is."""
    return make_network()


@pytest.fixture(scope="session")
def make_batch(tiny):
    """`make_batch(seed, images=4, texts=4) -> dict`: NumPy arrays as `JointTrainer` takes them.

    The first text is as long as it can be, the others are padded; the number of masked tokens
    varies too.
    """

    def make(seed, images=4, texts=4):
        rng = np.random.default_rng(seed)
        length, size = tiny["max_sequence_length"], tiny["image_size"]

        def integers(high, *shape, low=0):
            return rng.integers(low, high, shape, dtype=np.int32)

        lengths = np.append(length, integers(length, texts - 1, low=PREDICTIONS + 1))
        segments = integers(lengths, texts)
        columns = np.arange(length)
        masked = [rng.choice(n - 1, PREDICTIONS, replace=False) + 1 for n in lengths]
        weights = np.arange(PREDICTIONS) <= integers(PREDICTIONS, texts)[:, None]
        return {
            "images": rng.random((images, size, size, 3), np.float32),
            "image_labels": integers(tiny["num_classes"], images),
            "token_ids": integers(tiny["vocabulary_size"], texts, length),
            "segment_ids": (columns > segments[:, None]).astype(np.int32),
            "padding_mask": (columns < lengths[:, None]).astype(np.int32),
            "masked_positions": np.array(masked, np.int32),
            "masked_ids": integers(tiny["vocabulary_size"], texts, PREDICTIONS),
            "masked_weights": weights.astype(np.float32),
            "next_sentence_labels": integers(2, texts),
        }

    return make


@pytest.fixture(scope="session")
def labelled_batches(make_batch):
    """Three batches with labels, as `FineTuner` takes them; leave them as they are."""
    batches = [make_batch(seed) for seed in range(3)]
    return [{**batch, "text_labels": batch["image_labels"]} for batch in batches]


@pytest.fixture(scope="session")
def make_tuner(tiny, randomize):
    """`make_tuner(modality, clip_norm, label_smoothing, lora_rank, **optimizer) -> FineTuner`.

    Its schedule is one of six steps.
    """
    from keras_vitbert.configs import fine_tuning
    from keras_vitbert.experiments.fine_tuning.trainer import build_optimizer
    from keras_vitbert.model.classifier import build_classifier
    from keras_vitbert.training.fine_tuner import FineTuner

    def make(modality="text", clip_norm=1.0, label_smoothing=0.0, lora_rank=0, **optimizer):
        network = randomize(build_classifier(tiny, {modality: 3}), seed=4)
        if lora_rank:
            network.enable_lora(lora_rank)
        config = fine_tuning.get_config(
            "", "images" if modality == "image" else "text"
        ).optimizer.with_values(optimizer)
        tuner = FineTuner(network, label_smoothing, clip_norm=clip_norm)
        tuner.compile(build_optimizer(config, 6, network))
        return tuner

    return make


# --- trained models, as they are served --------------------------------------------------------


@pytest.fixture(scope="session")
def make_trained(make_network):
    """`make_trained(*heads, seed=1, images=True, text=True) -> TrainedModel`."""
    from keras_vitbert.trained.trained_model import TrainedModel
    from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY

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
    from keras_vitbert.trained.served_model import ServedModel

    return ServedModel(trained, top_k=2)


@pytest.fixture(scope="session")
def served_classifier(classifier):
    from keras_vitbert.trained.served_model import ServedModel

    return ServedModel(classifier)


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """The folder into which `trained` is exported as `vitbert`; leave it as it is."""
    from keras_vitbert.trained.exporting import export

    folder = tmp_path_factory.mktemp("served")
    export(trained, str(folder), top_k=2)
    return folder


# --- runs that figures are drawn of --------------------------------------------------------------


@pytest.fixture(scope="session")
def run_with_checkpoint(sources, made_once):
    """`run_with_checkpoint(variant) -> folder` by `write_run_with_checkpoint`; do not change it."""
    from tests.keras_vitbert.extras.paper_figures.hand_made_runs import write_run_with_checkpoint

    def run_with_checkpoint(name):
        folder = made_once(
            f"checkpoint-{name}", lambda folder: write_run_with_checkpoint(folder, sources, name)
        )
        # Named by its variant, as figures are by it.
        return folder / name

    return run_with_checkpoint


@pytest.fixture(scope="session")
def older_run(run_with_checkpoint):
    """The `PretrainedRun` of a masked run that has stored no values."""
    from keras_vitbert.extras.paper_figures.runs import PretrainedRun

    return PretrainedRun(str(run_with_checkpoint("vitbert_no_kd")))


@pytest.fixture
def unfinished(sources, finished, tmp_path):
    """The folder of an image run that has done all its steps, but not come to its end."""
    folder = tmp_path / "unfinished"
    shutil.copytree(finished("vit"), folder)
    (folder / "summary.json").unlink()
    return folder


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: `pretrain` refuses, and leaves the output as it was."""
    from tests.keras_vitbert.bad_calls import assert_refused
    from tests.keras_vitbert.tiny_runs import pretrain

    def refused(*flags, culprit, output_dir=tmp_path / "run", untouched=True):
        def call():
            return pretrain(sources, output_dir, *flags)

        assert_refused(call, capsys, output_dir, culprit, untouched)

    return refused


# --- fine-tuned runs -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image_flags(finished, image_task):
    """What fine-tunes the run of `joint` on images."""
    from tests.keras_vitbert.tiny_tasks import IMAGE_FLAGS, RATES

    flags = ["--task=images", f"--data_dir={image_task}", *IMAGE_FLAGS]
    flags.append(f"--config.grid={RATES}")
    return [f"--checkpoint={finished('joint')}", *flags]


@pytest.fixture(scope="session")
def text_flags(finished, text_task):
    """The same on texts."""
    from tests.keras_vitbert.tiny_tasks import TEXT_FLAGS

    flags = ["--task=texts", f"--data_dir={text_task}", *TEXT_FLAGS]
    return [f"--checkpoint={finished('joint')}", *flags]


@pytest.fixture(scope="session")
def text_run(made_once, text_flags):
    """The folder of a run on texts, and `all.csv` of what it predicts beside it; leave them."""
    from tests.keras_vitbert.tiny_tasks import finetune

    def make(folder):
        flags = [f"--output_dir={folder / 'run'}", f"--predictions={folder / 'all.csv'}"]
        assert finetune(*text_flags, *flags) == 0

    return made_once("text_run", make) / "run"


@pytest.fixture(scope="session")
def swept(made_once, image_flags):
    """The same of a sweep on images over two rates and two seeds, which takes long."""
    from tests.keras_vitbert.tiny_tasks import finetune

    def make(folder):
        flags = [f"--output_dir={folder / 'run'}", f"--predictions={folder / 'all.csv'}"]
        assert finetune(*image_flags, "--sweep", "--seeds=2", *flags) == 0

    return made_once("swept", make) / "run"


@pytest.fixture
def config():
    """The config of a student of stored models, to be changed."""
    from tests.keras_vitbert.trained.student import student_config  # slow to load

    return student_config()


@pytest.fixture
def copy(tmp_path):
    """`copy(name) -> folder` of a stored model, to be damaged."""
    from tests.keras_vitbert.trained.stored_models import FIXTURES

    return lambda name: shutil.copytree(FIXTURES / name, tmp_path / name)
