from keras_vitbert.configs import paper


def get_config():
    config = paper.get_config("sample")
    config.seed = 3
    config.model = {
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "image_size": 8,
        "patch_size": 4,
        "num_classes": 3,
        "vocabulary_size": 36,
        "max_sequence_length": 16,
        "dropout": 0.1,
    }
    for name in ("images", "text"):
        for split in ("train", "validation"):
            config.data[name][split] = f"data/{name}-{split}-*"
    config.data.images.crop_area = (0.5, 1.0)
    config.data.vocabulary = "data/vocab.txt"
    config.image_batch = config.text_batch = 4
    config.steps = 10
    config.steps_per_epoch = config.validation_interval = 4
    config.checkpoint_interval = 4
    config.checkpoints_to_keep = 2
    config.optimizer.update(learning_rate=1e-2, warmup_steps=2)
    config.merge.update(mask_update_interval=2, mask_ratio_per_update=0.2)
    config.teachers.update(image_steps=3, text_steps=4)
    config.inspection.update(gradient_interval=4, activation_interval=0)
    return config
