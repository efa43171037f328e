"""Makes the small models beside it, with the logits that Hugging Face's transformers give.

    python tests/keras_vitbert/trained/make_fixtures.py [NAME ...]

By default it makes all of them. It needs the extra `parity`. Weights are random and wide, so that
another activation, epsilon or layout changes the logits by far more than the tests allow; sizes are
odd. Made with transformers 5.24 and torch 2.13.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

FOLDER = pathlib.Path(__file__).parent / "fixtures"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(32))]
ANIMALS = ["tench, Tinca tinca", "Great_White-Shark", "hen"]
BERT = {
    "vocab_size": len(TOKENS),
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 21,
    "max_position_embeddings": 19,
    "layer_norm_eps": 1e-3,
}
DISTILBERT = {
    "vocab_size": len(TOKENS),
    "dim": 15,
    "n_layers": 2,
    "n_heads": 5,
    "hidden_dim": 21,
    "max_position_embeddings": 19,
}
MOODS = ["bad", "so so", "good"]
VIT = {
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 21,
    "image_size": 9,
    "patch_size": 3,
    "layer_norm_eps": 1e-3,
    "id2label": dict(enumerate(ANIMALS)),
}


def randomize(model, seed, matrices=0.3, others=0.3):
    """Draws all weights anew, with these deviations; those that are tied stay so."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            deviation = matrices if parameter.ndim > 1 else others
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(center + deviation * noise)
    return model.eval()


def texts(seed):
    """A batch of padded pairs of segments, as `Teacher` takes them."""
    random = np.random.default_rng(seed)
    lengths = np.array([13, 7, 10])
    columns = np.arange(13)
    return {
        "token_ids": random.integers(0, len(TOKENS), (3, 13)),
        "segment_ids": (columns > np.array([[6], [3], [13]])).astype(int),
        "padding_mask": (columns < lengths[:, None]).astype(int),
        "masked_positions": np.stack([random.choice(n, 3, replace=False) for n in lengths]),
    }


def text_tensors(model, batch):
    """The inputs of a model of texts, as tensors; a DistilBERT takes no segments."""
    tensors = {
        "input_ids": torch.tensor(batch["token_ids"]),
        "attention_mask": torch.tensor(batch["padding_mask"]),
    }
    if model.config.model_type == "bert":
        tensors["token_type_ids"] = torch.tensor(batch["segment_ids"])
    return tensors


def bert_logits(model, batch):
    with torch.no_grad():
        outputs = model(**text_tensors(model, batch))
    if "pooler_output" in outputs:
        return {"pooled": outputs.pooler_output.numpy()}
    words = outputs.get("prediction_logits", outputs.get("logits"))
    if words.ndim == 2:
        return {"text_logits": words.numpy()}
    index = torch.tensor(batch["masked_positions"])[:, :, None].expand(-1, -1, words.shape[-1])
    logits = {"mlm_logits": words.gather(1, index).numpy()}
    if "seq_relationship_logits" in outputs:
        logits["nsp_logits"] = outputs["seq_relationship_logits"].numpy()
    return logits


def pixels(images, mean, std):
    """What a ViT is called on, of images in [0, 1]."""
    normalised = (images - np.asarray(mean)) / np.asarray(std)
    return torch.tensor(normalised.transpose(0, 3, 1, 2), dtype=torch.float32)


def vit_logits(model, images, mean, std):
    with torch.no_grad():
        outputs = model(pixels(images, mean, std))
    if "logits" in outputs:
        return {"image_logits": outputs.logits.numpy()}
    return {"tokens": outputs.last_hidden_state.numpy()}


MEAN, STD = [0.41, 0.52, 0.33], [0.21, 0.32, 0.17]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TANH, MOOD = {"hidden_act": "gelu_new"}, {"id2label": dict(enumerate(MOODS))}
# The names of transformers 5, in half precision, without biases of queries, keys and values
HALF = {"qkv_bias": False, "image_size": 15, "hidden_act": "gelu_pytorch_tanh"}
# Name to class, config, seed, and keys of `save_pretrained` or the mean and std of images
TEXT_MODELS = {
    "bert": ("BertForPreTraining", BERT, 1, {}),
    "masked_lm": ("BertForMaskedLM", BERT | TANH, 2, {"max_shard_size": "12KB"}),
    "untied": ("BertForPreTraining", BERT | {"tie_word_embeddings": False}, 3, {}),
    "bert_classifier": ("BertForSequenceClassification", BERT | TANH | MOOD, 9, {}),
    "bert_model": ("BertModel", BERT, 10, {}),
    "distilbert": ("DistilBertForMaskedLM", DISTILBERT, 11, {}),
    "distilbert_classifier": (
        *("DistilBertForSequenceClassification", DISTILBERT | MOOD | {"activation": "relu"}, 12),
        {},
    ),
}
IMAGE_MODELS = {
    "vit": ("ViTForImageClassification", VIT, 4, (MEAN, STD)),
    "vit_half": ("ViTForImageClassification", VIT | HALF, 5, (MEAN, STD)),
    "vit_model": ("ViTModel", VIT, 6, None),
    "deit": ("DeiTForImageClassification", VIT, 7, None),
    "deit_teacher": ("DeiTForImageClassificationWithTeacher", VIT, 8, IMAGENET),
}


def build(architecture, config, seed):
    name = architecture.partition("For")[0].removesuffix("Model")
    config = getattr(transformers, f"{name}Config")(**config)
    return randomize(getattr(transformers, architecture)(config), seed)


def make_text_model(folder, architecture, config, seed, options):
    model, batch = build(architecture, config, seed), texts(seed)
    logits = bert_logits(model, batch)
    model.save_pretrained(folder, **options)
    if options:  # the vocabulary in a tokenizer.json
        ids = {token: number for number, token in enumerate(TOKENS)}
        transformers.BertTokenizer(vocab=ids).save_pretrained(folder)
    else:
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    np.savez(folder / "expected.npz", **batch, **logits)


def make_image_model(folder, architecture, config, seed, mean_and_std):
    model, size = build(architecture, config, seed), config["image_size"]
    images = np.random.default_rng(seed).random((3, size, size, 3), np.float32)
    if "qkv_bias" in config:
        model.bfloat16().save_pretrained(folder, save_original_format=False)
        model.float()  # of the rounded weights
    else:
        model.save_pretrained(folder)
    seen_by = IMAGENET if architecture.startswith("DeiT") else ([0.5] * 3, [0.5] * 3)
    mean, std = mean_and_std or seen_by
    np.savez(folder / "expected.npz", images=images, **vit_logits(model, images, mean, std))
    if mean_and_std:
        content = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
        content |= {"image_mean": mean, "image_std": std, "size": {"height": size, "width": size}}
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps(content, indent=2) + "\n")


def main(names, folder=FOLDER):
    """Writes the fixtures of these names, or all."""
    for name in names or [*TEXT_MODELS, *IMAGE_MODELS]:
        if name in TEXT_MODELS:
            make_text_model(folder / name, *TEXT_MODELS[name])
        else:
            make_image_model(folder / name, *IMAGE_MODELS[name])


if __name__ == "__main__":
    main(sys.argv[1:])
