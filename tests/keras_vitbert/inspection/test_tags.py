"""How much TensorBoard shows of a run with both modalities and masks, at 12 blocks."""

import types

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from keras_vitbert.inspection.callbacks import ActivationMaps, GradientProbe, MaskPictures
from keras_vitbert.inspection.run_texts import RunTexts
from keras_vitbert.runs.callbacks import RunLog
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.joint_trainer import JointTrainer

BLOCKS = [f"block_{n}" for n in range(12)]
NUMBERS = ("text_norm", "image_norm", "cosine", "norm_ratio", "opposite_sign")


@pytest.fixture
def trainer(network):
    """What the callbacks ask of a `JointTrainer` in the first step, with what depends on blocks."""
    conflict = {name: dict.fromkeys(NUMBERS, 0.5) for name in (*BLOCKS, "final_norm", "all")}
    layers = ("query", "key", "value", "attention_output")
    layers += ("feedforward_intermediate_dense", "feedforward_output_dense")
    paths = [f"{block}/{layer}/kernel" for block in BLOCKS for layer in layers]
    sparsities = dict.fromkeys(("mask_sparsity", *(f"mask_sparsity/{b}" for b in BLOCKS)), 0.5)
    merged = [f"merge/{name}" for name in ("text_weight", "image_weight", "cosine")]
    merged += [f"{name}/{block}" for name in merged for block in BLOCKS]
    probed = ("text_gradient_norm", "image_gradient_norm", "gradient_cosine")
    return types.SimpleNamespace(
        network=network,
        step=0,
        steps_per_execution=1,
        refreshed=True,
        curves=JointTrainer.curves,
        optimizer=types.SimpleNamespace(learning_rate=0.1),
        log_values=lambda: {**dict.fromkeys((*probed, *merged), 0.5), **sparsities},
        request_gradient_stats=lambda: None,
        conflict=types.SimpleNamespace(values=lambda: conflict, buckets=dict),
        merge=types.SimpleNamespace(
            chosen_paths=paths,
            mask=types.SimpleNamespace(
                masks=[types.SimpleNamespace(value=np.ones((4, 4), bool)) for _ in paths]
            ),
        ),
    )


def test_at_12_blocks_there_are_less_than_40_tags(trainer, tmp_path):
    folder = RunFolder(str(tmp_path))
    maps = ActivationMaps(None, None, folder, 1, 1, 1)
    maps.values = lambda: {name: np.ones((12, 8), np.float32) for name in ("image", "text")}
    callbacks = [
        RunTexts(folder, {"variant": "vitbert"}, {"steps": 1}),
        MaskPictures(folder),
        GradientProbe(folder, 1, 1),
        maps,
        RunLog(folder, 0),
    ]
    for callback in callbacks:
        callback._model = trainer
    for callback in callbacks:
        callback.on_train_begin()
        callback.on_train_batch_begin(0)
    trainer.step = 1
    names = [f"{task}_{kind}" for task in ("image", "mlm", "nsp") for kind in ("loss", "accuracy")]
    logs = dict.fromkeys((*names, "loss", *(f"val_{name}" for name in (*names, "loss"))), 0.5)
    logs |= dict.fromkeys(("gradient_norm", "images_per_second", "tokens_per_second"), 0.5)
    for callback in callbacks:
        callback.on_train_batch_end(0)
        callback.on_epoch_end(0, logs)

    tags = {}
    for name in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / name)).Reload()
        tags[name] = set(events.Tags()["tensors"]) - {"_hparams_/session_start_info"}
    assert tags["validation"] < tags["train"] and len(tags["train"]) < 40
    curves = {f"{name.split('_')[1]}/{name}" for name in names} | {"loss/loss"}
    assert tags["validation"] == curves
    curves |= {"gradient/gradient_norm", "learning_rate/learning_rate"}
    curves |= {"throughput/images_per_second", "throughput/tokens_per_second"}
    curves |= {"mask_sparsity/mask_sparsity", "co_activation/overlap", "co_activation/correlation"}
    curves |= {f"gradient/{name}" for name in ("text_gradient_norm", "image_gradient_norm")}
    curves |= {f"gradient/gradient_{name}" for name in NUMBERS[2:]}
    curves |= {"merge/text_weight", "merge/image_weight", "merge/cosine"}
    pictures = {"gradient_conflict/blocks", "masks/sparsity", "activations/overview"}
    pictures |= {f"{what}/block_{n}" for what in ("masks", "activations") for n in (0, 6, 11)}
    assert tags["train"] == curves | pictures | {"configuration", "model"}
    [row] = folder.rows(up_to_step=1)
    assert all(float(row[f"mask_sparsity/{block}"]) == 0.5 for block in BLOCKS)
    assert all(float(row[f"merge/cosine/{block}"]) == 0.5 for block in BLOCKS)
    assert float(row["gradient_cosine"]) == 0.5
