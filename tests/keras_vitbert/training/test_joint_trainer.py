import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.merging import GradientMask, GradientSum
from keras_vitbert.training.optimizers import SGD, build_optimizer, decays
from tests.keras_vitbert.training import reference

RATIO, TEMPERATURE = 0.3, 2.0
NO_CLIP = 1e9
ADAMW = {
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-4,  # above the rounding of gradients that are zero, such as the key bias'
    "weight_decay": 0.1,
}


@pytest.fixture(scope="module")
def teachers(make_network):
    """Two teachers of different weights; their dropout must not act."""
    return Teachers(
        image=make_network(10, text=False, dropout=0.5),
        text=make_network(11, images=False, dropout=0.5),
    )


@pytest.fixture
def make_trainer(make_network):
    """`make_trainer(merge, optimizer, clip_norm, teachers, ...)`, of the same weights each time."""

    def make(merge=None, optimizer=None, clip_norm=NO_CLIP, network=None, **options):
        network = network or make_network(0, num_layers=1)
        trainer = JointTrainer(network, merge or GradientSum(), clip_norm=clip_norm, **options)
        optimizer = optimizer or SGD(1.0)
        if isinstance(optimizer, dict):
            optimizer = build_optimizer(optimizer, 100, network.trainable_variables)
        trainer.compile(optimizer=optimizer)
        return trainer

    return make


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def values(variables):
    return [v.numpy() for v in variables]


def weights(trainer):
    return values(trainer.network.trainable_variables)


def step(trainer, batch, **options):
    """A training step in eager mode; its logs as floats."""
    logs = trainer.train_step(tensors(batch), **options)
    return {name: float(value) for name, value in logs.items()}


def randomize_masks(merge, seed=5):
    rng = np.random.default_rng(seed)
    for mask in merge.masks:
        mask.assign(rng.random(mask.shape) < 0.5)


# --- the expected gradients: other code, TensorFlow's tape ---------------------------------------


def mean_loss(labels, weights, logits, teacher=None):
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if teacher is not None:
        t, s = (tf.nn.log_softmax(z / TEMPERATURE) for z in (teacher, logits))
        divergence = tf.reduce_sum(tf.exp(t) * (t - s), axis=-1)
        loss = (1 - RATIO) * loss + RATIO * TEMPERATURE**2 * divergence
    return tf.reduce_sum(loss * weights) / tf.reduce_sum(weights)


def text_loss(network, batch, teacher=None):
    logits = network(text_inputs(batch))
    teacher = teacher(text_inputs(batch), training=False) if teacher else {}
    mlm = (batch["masked_ids"], batch["masked_weights"], logits["mlm_logits"])
    nsp = (batch["next_sentence_labels"], np.ones(4, np.float32), logits["nsp_logits"])
    return mean_loss(*mlm, teacher.get("mlm_logits")) + mean_loss(*nsp, teacher.get("nsp_logits"))


def image_loss(network, batch, teacher=None):
    logits = network(image_inputs(batch))["image_logits"]
    teacher = teacher(image_inputs(batch), training=False) if teacher else {}
    labels = (batch["image_labels"], np.ones(4, np.float32))
    return mean_loss(*labels, logits, teacher.get("image_logits"))


def gradients(loss, network, batch, teacher=None):
    """Dense and in float64; None where the loss does not reach."""
    variables = [v.value for v in network.trainable_variables]
    with tf.GradientTape() as tape:
        value = loss(network, tensors(batch), teacher)
    found = tape.gradient(value, variables)
    return [None if g is None else np.asarray(tf.convert_to_tensor(g), np.float64) for g in found]


def merge_by_mask(text, image, masks):
    masks = iter(masks)
    merged = []
    for t, i in zip(text, image, strict=True):
        if t is None or i is None:
            merged.append(i if t is None else t)
        else:
            mask = next(masks)
            merged.append(mask * t + (1.0 - mask) * i)
    return merged


def merge_by_sum(text, image, ratio):
    pairs = zip(text, image, strict=True)
    return [
        (0 if t is None else (1 - ratio) * t) + (0 if i is None else ratio * i) for t, i in pairs
    ]


# --- one update ----------------------------------------------------------------------------------


def test_a_step_follows_the_gradient_of_the_papers_losses(make_trainer, make_batch, teachers):
    """An entry of every weight against finite differences of the NumPy reference, eq. 1 to 8."""
    merge = GradientMask()
    trainer = make_trainer(
        merge, teachers=teachers, distillation_ratio=RATIO, temperature=TEMPERATURE
    )
    randomize_masks(merge)
    masks = {v.path: m.numpy() for v, m in zip(trainer.shared, merge.masks, strict=True)}
    batch = make_batch(1)
    before = reference.weights_of(trainer.network)
    image_teacher = reference.image_logits(batch, reference.weights_of(teachers.image), 3)
    text_teacher = reference.text_logits(batch, reference.weights_of(teachers.text))

    def loss_of(task, labels, row_weights, logits, teacher):
        names = (logits[f"{task}_logits"], teacher[f"{task}_logits"], RATIO, TEMPERATURE)
        return reference.task_values(task, labels, row_weights, *names)[f"{task}_loss"]

    def image_loss(w):
        logits = reference.image_logits(batch, w, 3)
        return loss_of("image", batch["image_labels"], np.ones(4), logits, image_teacher)

    def text_loss(w):
        logits = reference.text_logits(batch, w)
        mlm = (batch["masked_ids"], batch["masked_weights"], logits, text_teacher)
        nsp = (batch["next_sentence_labels"], np.ones(4), logits, text_teacher)
        return loss_of("mlm", *mlm) + loss_of("nsp", *nsp)

    def slope(loss, path, at):
        sides = []
        for move in (1e-5, -1e-5):
            moved = before[path].copy()
            moved[at] += move
            sides.append(loss({**before, path: moved}))
        return (sides[0] - sides[1]) / 2e-5

    step(trainer, batch)
    after = reference.weights_of(trainer.network)
    rng = np.random.default_rng(0)
    moved = 0
    for path, old in before.items():
        # A gradient that is not zero, where there is one: padding and unused words have none.
        moves = np.flatnonzero(after[path] - old)
        at = np.unravel_index(rng.choice(moves if moves.size else old.size), old.shape)
        if path not in masks:
            expected = slope(image_loss, path, at) + slope(text_loss, path, at)
        else:
            expected = slope(text_loss if masks[path][at] else image_loss, path, at)
        assert old[at] - after[path][at] == pytest.approx(expected, rel=1e-5, abs=1e-6), path
        moved += abs(expected) > 1e-4
    assert moved > 0.9 * len(before)


@pytest.mark.parametrize("clipped", [True, False])
@pytest.mark.parametrize("kind", ["mask", "sum", "images", "text"])
def test_whole_steps(make_trainer, make_network, make_batch, teachers, kind, clipped):
    """Three updates of all weights: distillation, merge, clip and AdamW, with its weight decay."""
    network = make_network(0, num_layers=1, images=kind != "text", text=kind != "images")
    merge = GradientMask() if kind == "mask" else GradientSum(0.2)
    options = {"teachers": teachers, "distillation_ratio": RATIO, "temperature": TEMPERATURE}
    limit = 0.7 if clipped else NO_CLIP
    trainer = make_trainer(merge, ADAMW, limit, network, **options)
    if kind == "mask":
        randomize_masks(merge)
    variables = network.trainable_variables
    optimizer = reference.AdamW(
        weights(trainer), [decays(v) for v in variables], 0.9, 0.99, 1e-4, 0.1
    )
    for number in range(3):
        batch = make_batch(number)
        text = image = None
        if kind != "images":
            text = gradients(text_loss, network, batch, teachers.text)
        if kind != "text":
            image = gradients(image_loss, network, batch, teachers.image)
        if kind == "mask":
            merged = merge_by_mask(text, image, values(merge.masks))
        elif kind == "sum":
            merged = merge_by_sum(text, image, 0.2)
        else:
            merged = text or image
        merged, norm = reference.clip_by_global_norm(merged, limit)
        assert norm > 0.7

        logs = step(trainer, batch)
        assert logs["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        optimizer.apply(merged, reference.learning_rate(number, 0.01, 0, 100, 1.0))
        for variable, expected in zip(variables, optimizer.weights, strict=True):
            np.testing.assert_allclose(
                variable.value, expected, rtol=1e-6, atol=1e-6, err_msg=variable.path
            )


def test_bytes_are_images_from_0_to_1(make_trainer, make_batch, teachers):
    batch = make_batch(0)
    images = np.random.default_rng(0).integers(0, 256, batch["images"].shape).astype(np.uint8)
    logs, trained = [], []
    for given in (images, (images / 255).astype(np.float32)):
        trainer = make_trainer(
            GradientSum(0.5), SGD(0.1), teachers=teachers, distillation_ratio=0.5
        )
        logs.append(step(trainer, {**batch, "images": given}))
        trained.append(weights(trainer))
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    for of_bytes, of_floats in zip(*trained, strict=True):
        np.testing.assert_allclose(of_bytes, of_floats, atol=1e-6)


def test_mixed_images_have_two_labels(make_trainer, make_batch, teachers):
    """Against cross-entropy with the mixed distribution of labels, in float64."""
    batch = make_batch(2)
    second = (batch["image_labels"] + np.array([1, 2, 1, 0], np.int32)) % 3
    weight = np.array([0.5, 0.7, 1.0, 0.9], np.float32)
    batch |= {"image_mix_labels": second, "image_mix_weights": weight}
    trainer = make_trainer(teachers=teachers, distillation_ratio=RATIO, temperature=TEMPERATURE)
    logits = trainer.network(image_inputs(tensors(batch)))["image_logits"].numpy()
    taught = teachers.image(image_inputs(tensors(batch)), training=False)["image_logits"].numpy()
    labels = np.zeros((4, 3))
    np.add.at(labels, (np.arange(4), batch["image_labels"]), weight)
    np.add.at(labels, (np.arange(4), second), 1 - weight)

    def log_softmax(z):
        z = z.astype(np.float64)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    t, s = log_softmax(taught / TEMPERATURE), log_softmax(logits / TEMPERATURE)
    divergence = TEMPERATURE**2 * (np.exp(t) * (t - s)).sum(-1)
    expected = (1 - RATIO) * -(labels * log_softmax(logits)).sum(-1) + RATIO * divergence
    logs = step(trainer, batch)
    np.testing.assert_allclose(logs["image_loss"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(
        logs["image_accuracy"], (logits.argmax(-1) == batch["image_labels"]).mean()
    )


def encoder(trainer):
    return values(trainer.shared)


def test_with_all_ones_images_leave_the_encoder_alone(make_trainer, make_batch):
    one, two = make_trainer(GradientMask()), make_trainer(GradientMask())
    batch, other = make_batch(1), make_batch(2)
    changed = {**batch, "images": other["images"], "image_labels": other["image_labels"]}
    before = encoder(one)
    step(one, batch)
    step(two, changed)
    for a, b in zip(encoder(one), encoder(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(encoder(one), before, strict=True))
    kernels = [t.network.backbone.image_embedding.patch_projection.kernel for t in (one, two)]
    assert np.abs(kernels[0].numpy() - kernels[1].numpy()).max() > 1e-3


def test_with_all_zeros_text_leaves_the_encoder_alone(make_trainer, make_batch):
    merges = [GradientMask(), GradientMask()]
    one, two = (make_trainer(merge) for merge in merges)
    for merge in merges:
        for mask in merge.masks:
            mask.assign(np.zeros(mask.shape, bool))
    batch = make_batch(1)
    changed = {**make_batch(2), **{n: batch[n] for n in ("images", "image_labels")}}
    before = encoder(one)
    step(one, batch)
    step(two, changed)
    for a, b in zip(encoder(one), encoder(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(encoder(one), before, strict=True))
    words = [t.network.backbone.text_embedding.word_embedding.embeddings for t in (one, two)]
    assert np.abs(words[0].numpy() - words[1].numpy()).max() > 1e-3


def test_the_masks_are_the_shared_encoders_and_all_that_a_merge_owns(make_trainer):
    merge = GradientMask()
    trainer = make_trainer(merge)
    assert [m.shape for m in merge.masks] == [v.shape for v in trainer.shared]
    assert {id(v) for v in merge.variables} == {id(m) for m in merge.masks}
    assert len(trainer.trainable_variables) == len(trainer.network.trainable_variables)


# --- teachers ------------------------------------------------------------------------------------


def test_teachers_only_look(make_trainer, make_batch, teachers):
    trainer = make_trainer(teachers=teachers, distillation_ratio=1.0)
    own = {id(v) for v in trainer.variables}
    theirs = [*teachers.image.variables, *teachers.text.variables]
    assert own >= {id(v) for v in trainer.network.variables}
    assert not own & {id(v) for v in theirs}
    before = values(theirs)
    step(trainer, make_batch(0))
    for old, new in zip(before, values(theirs), strict=True):
        np.testing.assert_array_equal(old, new)


def test_teachers_say_what_they_see(make_batch, teachers):
    batch = make_batch(0)
    logits = teachers(batch)
    assert set(logits) == {"image_logits", "mlm_logits", "nsp_logits"}
    again = teachers({"images": batch["images"]})
    assert set(again) == {"image_logits"}
    np.testing.assert_array_equal(again["image_logits"], logits["image_logits"])
    assert Teachers()(batch) == {}


def test_teachers_without_effect_at_ratio_0(make_trainer, make_batch, teachers):
    taught, alone = make_trainer(teachers=teachers, distillation_ratio=0.0), make_trainer()
    assert step(taught, make_batch(0)) == step(alone, make_batch(0))
    for a, b in zip(weights(taught), weights(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_learnt_from_oneself(make_trainer, make_network, make_batch):
    twin = make_network(0, num_layers=1, dropout=0.5)
    trainer = make_trainer(
        teachers=Teachers(twin, twin), distillation_ratio=1.0, temperature=TEMPERATURE
    )
    before = weights(trainer)
    logs = step(trainer, make_batch(0))
    assert logs["loss"] == logs["image_loss"] == logs["mlm_loss"] == logs["nsp_loss"] == 0
    for old, new in zip(before, weights(trainer), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


def test_distillation_without_teachers_is_refused(make_trainer):
    with pytest.raises(ValueError, match="distillation_ratio is 0.5, but teachers is None"):
        make_trainer(distillation_ratio=0.5)


# --- metrics -------------------------------------------------------------------------------------


def expected_metrics(network, *batches, **distillation):
    """NumPy's, of the weights as they are, all batches taken together."""
    w = reference.weights_of(network)
    columns = {"image": [], "mlm": [], "nsp": []}
    for batch in batches:
        image, text = reference.image_logits(batch, w, 3), reference.text_logits(batch, w)
        images = batch.get("image_weights", np.ones(len(batch["images"])))
        texts = batch.get("text_weights", np.ones(len(batch["token_ids"])))
        columns["image"].append((batch["image_labels"], images, image["image_logits"]))
        masked = batch["masked_weights"] * texts[:, None]
        columns["mlm"].append((batch["masked_ids"], masked, text["mlm_logits"]))
        columns["nsp"].append((batch["next_sentence_labels"], texts, text["nsp_logits"]))
    logs = {}
    for task, parts in columns.items():
        joined = [np.concatenate(x) for x in zip(*parts, strict=True)]
        logs |= reference.task_values(task, *joined)
    return logs


def test_metrics_of_training(make_trainer, make_batch):
    trainer = make_trainer(GradientSum(0.3), SGD(0.0))
    expected = expected_metrics(trainer.network, make_batch(0), make_batch(1))
    step(trainer, make_batch(0))
    logs = step(trainer, make_batch(1))
    assert logs.pop("gradient_norm") > 0
    text = expected["mlm_loss"] + expected["nsp_loss"]
    expected["loss"] = 0.3 * expected["image_loss"] + 0.7 * text
    assert logs == pytest.approx(expected, rel=1e-5)


def test_evaluate_counts_every_example_once(make_trainer, make_batch):
    trainer = make_trainer(GradientMask())
    padded = make_batch(1)
    padded["image_weights"] = np.array([1, 1, 0, 1], np.float32)
    padded["text_weights"] = np.array([1, 0, 0, 1], np.float32)
    batches = [
        {"image_weights": np.ones(4, np.float32), "text_weights": np.ones(4, np.float32)}
        | make_batch(0),
        padded,
    ]
    expected = expected_metrics(trainer.network, *batches)
    expected["loss"] = expected["image_loss"] + expected["mlm_loss"] + expected["nsp_loss"]
    assert not expected == pytest.approx(expected_metrics(trainer.network, *batches[:1]), rel=0.01)
    joined = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
    dataset = tf.data.Dataset.from_tensor_slices(joined).batch(4)
    logs = trainer.evaluate(dataset, return_dict=True, verbose=0)
    assert logs == pytest.approx(expected, rel=1e-5)


def test_dropout_acts_in_training_only(make_trainer, make_network, make_batch):
    keras.utils.set_random_seed(0)
    network = make_network(0, num_layers=1, dropout=0.5)
    trainer = make_trainer(GradientMask(), SGD(0.0), network=network)
    still = expected_metrics(network, make_batch(0))
    first = step(trainer, make_batch(0))
    trainer.reset_metrics()
    second = step(trainer, make_batch(0))
    trainer.reset_metrics()
    again = trainer.test_step(tensors(make_batch(0)))
    for name in ("image_loss", "mlm_loss", "nsp_loss"):
        assert len({round(logs[name], 3) for logs in (first, second, still)}) == 3
        assert float(again[name]) == pytest.approx(still[name], rel=1e-5)


# --- probing -------------------------------------------------------------------------------------


def flat(gradients, others):
    """The entries of the shared encoder, which both losses reach."""
    pairs = zip(gradients, others, strict=True)
    return np.concatenate([g.ravel() for g, o in pairs if g is not None and o is not None])


def test_a_probing_step_measures_and_masks_before_it_merges(make_trainer, make_batch):
    merge = GradientMask()
    trainer = make_trainer(merge)
    batch = make_batch(3)
    text = gradients(text_loss, trainer.network, batch)
    image = gradients(image_loss, trainer.network, batch)
    before = weights(trainer)
    trainer.request_probe(clear=100)
    assert trainer.probe_requested
    step(trainer, batch, probing=True)

    t, i = flat(text, image), flat(image, text)
    norms = np.sqrt(t @ t), np.sqrt(i @ i)
    assert trainer.probe_values() == pytest.approx(
        {
            "text_gradient_norm": norms[0],
            "image_gradient_norm": norms[1],
            "gradient_cosine": t @ i / (norms[0] * norms[1]),
        },
        rel=1e-5,
    )
    masks = [np.ones(m.shape, bool) for m in merge.masks]
    shared = [g for g, o in zip(text, image, strict=True) if g is not None and o is not None]
    masks = reference.algorithm_1(masks, [np.float32(g) for g in shared], 100)
    for mask, expected in zip(merge.masks, masks, strict=True):
        np.testing.assert_array_equal(mask.numpy(), expected)
    merged = merge_by_mask(text, image, masks)
    for old, new, gradient in zip(before, weights(trainer), merged, strict=True):
        np.testing.assert_allclose(new, old - gradient, rtol=1e-5, atol=1e-6)

    probe = trainer.probe_values()
    step(trainer, make_batch(4))  # an ordinary one
    assert trainer.probe_values() == probe
    for mask, expected in zip(merge.masks, masks, strict=True):
        np.testing.assert_array_equal(mask.numpy(), expected)


def test_merges_without_masks_are_probed_too(make_trainer, make_batch):
    trainer = make_trainer(GradientSum())
    step(trainer, make_batch(0), probing=True)
    assert all(abs(value) > 1e-3 for value in trainer.probe_values().values())


def test_there_is_nothing_to_probe_with_one_modality(make_trainer, make_network):
    trainer = make_trainer(network=make_network(0, num_layers=1, images=False))
    trainer.request_probe()
    assert not trainer.probe_requested
    assert trainer.probe_values() == {}


# --- fit -----------------------------------------------------------------------------------------


class Requests(keras.callbacks.Callback):
    """Probes as a schedule and a logger would, and notes what is cleared after each step."""

    def __init__(self, requests):
        super().__init__()
        self.requests = requests
        self.cleared = []

    def on_train_batch_begin(self, batch, logs=None):
        for clear in self.requests.get(self.model.step, ()):
            self.model.request_probe(clear)

    def on_train_batch_end(self, batch, logs=None):
        masks = values(self.model.merge.masks)
        self.cleared.append(sum(np.count_nonzero(~m) for m in masks))


@pytest.mark.slow
def test_fit(make_trainer, make_batch, teachers):
    options = {"teachers": teachers, "distillation_ratio": RATIO, "temperature": TEMPERATURE}
    trainer, eager = (make_trainer(GradientMask(), ADAMW, 1.0, **options) for _ in range(2))
    batches = [make_batch(number) for number in range(8)]
    joined = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
    dataset = tf.data.Dataset.from_tensor_slices(joined).batch(4)
    requests = Requests({1: (0, 7), 2: (0,), 4: (5, 0), 6: (3,)})
    history = trainer.fit(
        dataset,
        epochs=2,
        steps_per_epoch=4,
        validation_data=dataset.take(1),
        callbacks=[requests],
        shuffle=False,
        verbose=0,
    ).history
    # A measuring request neither takes a clearing one away nor repeats an old one.
    assert requests.cleared == [0, 7, 7, 7, 12, 12, 15, 15]
    assert trainer.step == 8 and not trainer.probe_requested
    tasks = [f"{t}_{kind}" for t in ("image", "mlm", "nsp") for kind in ("loss", "accuracy")]
    names = {*tasks, "loss"}
    assert set(history) == names | {f"val_{n}" for n in names} | {"gradient_norm"}
    assert all(len(column) == 2 for column in history.values())

    for number, batch in enumerate(batches):
        clear = {1: 7, 4: 5, 6: 3}.get(number, 0)
        eager.clear_count.assign(clear)
        step(eager, batch, probing=clear > 0)
    for compiled, expected in zip(weights(trainer), weights(eager), strict=True):
        np.testing.assert_allclose(compiled, expected, rtol=1e-5, atol=1e-5)


def test_a_step_in_mixed_bfloat16(make_trainer, make_network, make_batch):
    network = make_network(0, num_layers=1, dtype="mixed_bfloat16")
    twin = make_network(1, num_layers=1, dtype="mixed_bfloat16")
    trainer = make_trainer(
        GradientMask(),
        ADAMW,
        network=network,
        teachers=Teachers(twin, twin),
        distillation_ratio=0.5,
    )
    before = weights(trainer)
    trainer.clear_count.assign(10)
    logs = step(trainer, make_batch(0), probing=True)
    assert np.isfinite(list(logs.values())).all()
    assert {v.dtype for v in network.variables} == {"float32"}
    assert {v.dtype for v in trainer.optimizer.variables if v.path.endswith("velocity")} == {
        "float32"
    }
    for old, new in zip(before, weights(trainer), strict=True):
        assert np.isfinite(new).all()
        assert np.any(old != new)
