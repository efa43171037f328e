"""The fine-tuning recipes: one for images, one for text, and what each task changes.

    python -m keras_vitbert.finetune --checkpoint=runs/paper --task=pets [--config.KEY=VALUE ...]

Values that are not from the paper are marked, as in `keras_vitbert.configs.paper`;
`docs/fine_tuning.md` explains the keys.
"""

from typing import Any

from ml_collections import config_dict

from keras_vitbert.configs.overrides import flatten

# The tasks of a user's own data, and their former names.
IMAGES, TEXTS = "images", "texts"
OLD_TASKS = {"image_folder": IMAGES, "tsv": TEXTS}

# Keys that `keras_vitbert.fine_tuning.recommended` chooses for a user's own data, and the values
# that ask for that.
CHOSEN = {
    IMAGES: {
        "image_size": 0,
        "images.crop_area": [],
        "batch": 0,
        "steps": 0,
        "optimizer.learning_rate": 0.0,
    },
    TEXTS: {"epochs": 0.0, "optimizer.learning_rate": 0.0},
}

# What a task changes. The steps of the vision tasks are the paper's.
_OF_TASK = {
    "cifar10": {"steps": 10_000},
    "cifar100": {"steps": 10_000},
    "imagenet": {"steps": 20_000, "selection_part": 0.01},
    "pets": {"steps": 500},
    "flowers": {"steps": 500},
    # Not in the paper; empty values follow from the images and the checkpoint.
    IMAGES: {
        "image_size": 0,
        "images": {"crop_area": ()},
        "batch": 0,
        "steps": 0,
        "grid": (1e-4, 3e-4, 1e-3, 3e-3),
        "optimizer": {
            "name": "adamw",
            "learning_rate": 0.0,
            "warmup": 0.1,
            "weight_decay": 0.01,
        },
    },
    TEXTS: {
        "epochs": 0.0,
        "grid": (3e-5, 1e-4, 3e-4, 1e-3),
        "optimizer": {"learning_rate": 0.0},
    },
}


def get_config(task, kind):
    """The config of a task.

    Args:
        task: str, of `keras_vitbert.fine_tuning.tasks.TASKS`.
        kind: str, `images` or `text`.
    """
    config = _vision() if kind == "images" else _text()
    config.update(_OF_TASK.get(task, {}))
    return config


def _common() -> Any:  # whose sections are attributes
    config = config_dict.ConfigDict()
    config.seed = 0  # of the first run; later runs count up
    config.dtype = "auto"  # mixed_bfloat16 on TPUs and newer GPUs, else float32
    config.jit_compile = "auto"  # XLA compiles the step on a single GPU; or on, off
    config.sharding = "replicated"  # or fsdp: JAX shards weights and moments across devices
    config.metric = "accuracy"  # reported, and used to pick the learning rate; or f1, mcc
    config.head = "paper"  # a two-layer MLP; or vit, deit, for text bert: as published models have
    config.dropout = 0.1
    config.attention_dropout = -1.0  # of attention weights; -1: as dropout
    config.stochastic_depth = 0.0  # of the last block; less in earlier ones
    config.accumulation = 1  # parts of a replica's batch, one after another, to save memory
    config.remat = False  # compute blocks again in the backward pass, to save memory
    config.label_smoothing = 0.0
    config.lora_rank = 0  # 0: all weights are trained
    config.selection_part = 0.1  # of the training examples, held out by --sweep; not in the paper
    config.evaluation_batch = 256
    config.test_examples = 0  # of each split that is reported; 0: all
    config.evaluation_interval = -1  # steps; 0: only at the end; -1: 20 times, if that is cheap
    config.steps_per_epoch = 0  # between two points of the curves; 0: a twentieth, at most 100
    config.steps_per_execution = 0  # between two returns to the host; 0: 1, on GPUs up to 10
    config.checkpoint_interval = 1_000
    config.checkpoints_to_keep = 1
    config.optimizer = {
        "power": 1.0,  # of the polynomial schedule; not in the paper
        "momentum": 0.9,  # of SGD
        "beta_1": 0.9,  # of AdamW, LAMB and Lion; not in the paper
        "beta_2": 0.999,  # not in the paper
        "epsilon": 1e-6,  # of AdamW and LAMB; not in the paper
        "clip_norm": 1.0,  # not in the paper for text
        "layer_decay": 1.0,  # 1: the same rate everywhere
        "ema": 0.0,  # momentum of the moving average of weights; 0: none
    }
    return config


def _vision():
    config = _common()
    config.image_size = 384
    config.batch = 512
    config.steps = 10_000
    config.grid = (0.001, 0.003, 0.01, 0.03)  # missing in our copy of the paper
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01  # not in the paper, which searches
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 0.0  # fraction of all steps
    config.optimizer.weight_decay = 0.0
    config.images = {
        "crop_area": (0.08, 1.0),  # not in the paper
        "flip": True,  # not in the paper
        "central_crop": 1.0,  # not in the paper
        "randaugment": (0, 9),
        "mixup": 0.0,
        "cutmix": 0.0,
        "layers": (),  # KerasCV's, such as ("GridMask", "RandomCutout(0.3, 0.3)")
    }
    config.data = {  # for tables of images
        "image_column": "",  # empty: the usual ones
        "label_column": "",
    }
    return config


def _text():
    config = _common()
    config.max_length = 0  # tokens; 0: the checkpoint's maximum
    config.buckets = (32, 64, 128, 256, 512)  # lengths that batches are padded to
    config.batch = 32  # not in the paper
    config.steps = 0  # 0: those of `epochs`
    config.epochs = 3.0
    config.grid = (2e-5, 3e-5, 5e-5, 1e-4)  # missing in our copy of the paper
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 5e-5  # not in the paper, which searches
    config.optimizer.schedule = "polynomial"
    config.optimizer.warmup = 0.1  # fraction of all steps; not in the paper
    config.optimizer.weight_decay = 0.01
    config.data = {
        "sentence_columns": "",  # one or two names, comma-separated; empty: the usual ones
        "label_column": "",
        "case": "auto",  # as the checkpoint's vocabulary; or lower, cased
    }
    return config


def open_keys(config):
    """The keys of a config whose values are still to be chosen.

    Args:
        config: `ConfigDict` of fine-tuning.

    Returns:
        list of str, dotted keys.
    """
    flat = flatten(config)
    chosen = CHOSEN[IMAGES if "image_size" in flat else TEXTS]
    return [key for key, empty in chosen.items() if flat[key] == empty]
