"""The paper's settings: base model, ImageNet-1k, Wikipedia and BooksCorpus, 1M steps.

    python -m keras_vitbert.pretrain --config=paper \\
        --config.data.images.train='imagenet/train-*' \\
        --config.data.images.validation='imagenet/validation-*' \\
        --config.data.text.train='text/train-*' --config.data.text.validation='text/validation-*' \\
        --config.data.vocabulary=vocab.txt --output_dir=runs/paper

`--config=paper:small` (or `tiny`, `large`) selects another encoder size. Values that are not from
the paper are marked: "not in the paper", or "missing in our copy" where the paper states a value
that was lost when its PDF became text. `docs/pretraining.md` explains the keys.
"""

import copy
from typing import Any

from ml_collections import config_dict

from keras_vitbert.configs import merges
from keras_vitbert.configs.sizes import encoder_size


def get_config(size: str = "base") -> config_dict.ConfigDict:
    """The config.

    Args:
        size: str, an encoder size of `keras_vitbert.configs.sizes`.
    """
    config: Any = config_dict.ConfigDict()  # whose sections are attributes
    config.seed = 0
    config.dtype = "auto"  # mixed_bfloat16 on TPUs and newer GPUs, else float32
    config.jit_compile = "auto"  # XLA compiles the step on a single GPU; or on, off
    config.sharding = "replicated"  # or fsdp: JAX shards weights and moments across devices

    config.model = {
        **encoder_size(size or "base"),
        "image_size": 224,
        "patch_size": 16,
        "num_classes": 0,  # 0: as many as the data have; without data 1,000
        "vocabulary_size": 0,  # 0: as many as the vocabulary has; without data 30,000
        "max_sequence_length": 0,  # 0: as long as the texts; without data 512
        "dropout": 0.1,
        "attention_dropout": -1.0,  # of attention weights; -1: as dropout
        "stochastic_depth": 0.0,  # of the last block; less in earlier ones
        # Architectures other than the paper's, such as those of checkpoints to start from:
        "norm": "pre",  # or post: LayerNorm after each sum, as in BERT
        "activation": "gelu",  # or gelu_tanh, relu, silu, tanh
        "layer_norm_epsilon": 1e-6,  # not in the paper
        "num_segments": 2,  # 0: none, as in DistilBERT
        "patch_bias": False,  # of the projection, as in ViT
        "prefix_tokens": 1,  # 2: with the distillation token of DeiT
        "image_mean": (0.5, 0.5, 0.5),  # of each channel, not in the paper
        "image_std": (0.5, 0.5, 0.5),
        "embedding_scale": 1.0,  # of words, positions and segments
        "image_head": "paper",  # or vit, deit
        "text_head": "paper",  # or bert
    }

    config.data = config_dict.ConfigDict()
    config.data.source = "files"  # or "sample": the sample data, prepared on demand
    config.data.images = {
        "train": "",
        "validation": "",
        "label_offset": 1,
        "crop_area": (0.08, 1.0),  # not in the paper
        "flip": True,  # not in the paper
        "central_crop": 0.875,  # not in the paper
        "randaugment": (0, 9),  # operations per image, magnitude; not in the paper
        "mixup": 0.0,  # alpha; not in the paper
        "cutmix": 0.0,  # alpha; not in the paper
        "layers": (),  # KerasCV's, such as ("GridMask", "RandomCutout(0.3, 0.3)"); not in the paper
    }
    config.data.text = {
        "train": "",
        "validation": "",
        "masking": {  # of texts that were stored without masks
            "ratio": 0.15,
            "max_predictions": 76,  # not in the paper
            "whole_word": False,  # not in the paper
        },
    }
    config.data.packing = False  # several texts per row, so that fewer tokens are padding
    config.data.vocabulary = ""
    config.data.case = "auto"  # as the texts were made; or lower, cased

    config.image_batch = 4096
    config.text_batch = 512
    config.steps = 1_000_000
    config.steps_per_epoch = 1_000  # between two lines in metrics.csv and TensorBoard
    config.steps_per_execution = 0  # between returns to the host; 0: 1, GPUs up to 10, TPUs 100
    config.accumulation = 1  # parts of a replica's batch, one after another, to save memory
    config.remat = False  # compute blocks again in the backward pass, to save memory
    config.validation_interval = 10_000
    config.checkpoint_interval = 5_000
    config.checkpoints_to_keep = 3

    config.optimizer = {
        "name": "adamw",  # or lamb, lion, adafactor, sgd
        "learning_rate": 1e-4,  # the peak; missing in our copy of the paper
        "warmup_steps": 10_000,
        "power": 1.0,  # not in the paper
        "momentum": 0.9,  # of SGD
        "beta_1": 0.9,  # of AdamW, LAMB and Lion; missing in our copy of the paper
        "beta_2": 0.999,  # missing in our copy of the paper
        "epsilon": 1e-6,  # of AdamW and LAMB; not in the paper
        "weight_decay": 0.01,
        "clip_norm": 1.0,  # not in the paper for pre-training
        "ema": 0.0,  # momentum of the moving average of weights; 0: none
    }
    config.distillation = {"ratio": 1.0, "temperature": 1.0}
    config.merge = {
        "name": "mask",  # or another of docs/merging.md, or such as mask+pcgrad
        "image_loss_ratio": 0.2,  # r of eq. 9, for sum
        "mask_ratio": 0.5,
        "mask_ratio_per_update": 0.1,
        "mask_update_interval": 10_000,
        "mask_rank": "text",  # or image, ratio, sign; not in the paper
        "mask_scope": "all",  # or tensor; not in the paper
        "mask_cumulative": True,  # or False: drawn again at every update; not in the paper
        "mask_softness": 0.0,  # share of the other gradient in each entry; not in the paper
        "mask_target": "gradient",  # or update, after the moments; not in the paper
        "per_block": False,  # whether each block is weighted by itself; not in the paper
        "blocks": "",  # such as 2:10, to merge only these this way; not in the paper
        **copy.deepcopy(merges.OPTIONS),  # not in the paper
    }
    config.teachers = {"image_steps": 0, "text_steps": 0}  # 0: as many as the student

    config.inspection = {  # what TensorBoard shows; not in the paper
        "activation_interval": 10_000,  # steps between two pictures of activations; 0: none
        "activation_examples": 64,  # images, and as many texts, to average over
        "mask_pictures": True,  # at every update of the masks
        "gradient_interval": 1_000,  # steps between two probes of both gradients; 0: none
        "gradient_histograms": False,  # whether probes also make histograms for each block
    }
    config.probes = {  # of frozen features, on validation examples; not in the paper
        "interval": 0,  # steps between two; 0: none
        "examples": 1_000,  # images and texts each: half train the probe, half test it
    }
    return config
