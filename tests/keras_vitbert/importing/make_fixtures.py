"""Makes the small models beside it, with the logits that Hugging Face's transformers give.

    python tests/keras_vitbert/importing/make_fixtures.py

It needs the extra `parity`. Weights are random and wide, so that another activation, epsilon or
layout changes the logits by far more than the tests allow; sizes are odd. Made with transformers
5.24 and torch 2.13.
"""

import json
import pathlib

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


def randomize(model, seed):
    """Draws all weights anew; those that are tied stay so."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(center + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def texts(seed):
    """A batch of padded pairs of segments, as `TextTeacher` takes them."""
    random = np.random.default_rng(seed)
    lengths = np.array([13, 7, 10])
    columns = np.arange(13)
    return {
        "token_ids": random.integers(0, len(TOKENS), (3, 13)),
        "segment_ids": (columns > np.array([[6], [3], [13]])).astype(int),
        "padding_mask": (columns < lengths[:, None]).astype(int),
        "masked_positions": np.stack([random.choice(n, 3, replace=False) for n in lengths]),
    }


def bert_logits(model, batch):
    tensors = {name: torch.tensor(value) for name, value in batch.items()}
    with torch.no_grad():
        outputs = model(
            input_ids=tensors["token_ids"],
            token_type_ids=tensors["segment_ids"],
            attention_mask=tensors["padding_mask"],
        )
    words = outputs.get("prediction_logits", outputs.get("logits"))
    index = tensors["masked_positions"][:, :, None].expand(-1, -1, words.shape[-1])
    logits = {"mlm_logits": words.gather(1, index).numpy()}
    if "seq_relationship_logits" in outputs:
        logits["nsp_logits"] = outputs["seq_relationship_logits"].numpy()
    return logits


def vit_logits(model, images, mean, std):
    pixels = (images - np.asarray(mean)) / np.asarray(std)
    with torch.no_grad():
        outputs = model(torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32))
    if "logits" in outputs:
        return {"image_logits": outputs.logits.numpy()}
    return {"tokens": outputs.last_hidden_state.numpy()}


def write(name, model, batch, logits, **options):
    folder = FOLDER / name
    model.save_pretrained(folder, **options)
    np.savez(folder / "expected.npz", **batch, **logits)


def write_bert(name, model, seed, vocabulary, **options):
    batch = texts(seed)
    model = randomize(model, seed)
    write(name, model, batch, bert_logits(model, batch), **options)
    if vocabulary == "vocab.txt":
        (FOLDER / name / vocabulary).write_text("".join(f"{token}\n" for token in TOKENS))
    else:
        ids = {token: number for number, token in enumerate(TOKENS)}
        transformers.BertTokenizer(vocab=ids).save_pretrained(FOLDER / name)


def write_vit(name, model, seed, mean, std, processor=True, half=False, **options):
    size = model.config.image_size
    batch = {"images": np.random.default_rng(seed).random((3, size, size, 3), np.float32)}
    model = randomize(model, seed)
    if half:
        model.bfloat16().save_pretrained(FOLDER / name, **options)
        model.float()  # of the rounded weights
        logits = vit_logits(model, batch["images"], mean, std)
        np.savez(FOLDER / name / "expected.npz", **batch, **logits)
    else:
        write(name, model, batch, vit_logits(model, batch["images"], mean, std), **options)
    if processor:
        content = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
        content |= {"image_mean": mean, "image_std": std, "size": {"height": size, "width": size}}
        path = FOLDER / name / "preprocessor_config.json"
        path.write_text(json.dumps(content, indent=2) + "\n")


def main():
    """Writes the fixtures."""
    bert, vit, deit = transformers.BertConfig, transformers.ViTConfig, transformers.DeiTConfig
    write_bert("bert", transformers.BertForPreTraining(bert(**BERT)), 1, "vocab.txt")
    # Without next sentence, in shards, and with GELU by tanh.
    model = transformers.BertForMaskedLM(bert(**{**BERT, "hidden_act": "gelu_new"}))
    write_bert("masked_lm", model, 2, "tokenizer.json", max_shard_size="12KB")
    model = transformers.BertForPreTraining(bert(**{**BERT, "tie_word_embeddings": False}))
    write_bert("untied", model, 3, "vocab.txt")

    mean, std = [0.41, 0.52, 0.33], [0.21, 0.32, 0.17]
    write_vit("vit", transformers.ViTForImageClassification(vit(**VIT)), 4, mean, std)
    # Half precision, no biases of queries, keys and values, and the names of transformers 5.
    options = {**VIT, "qkv_bias": False, "image_size": 15, "hidden_act": "gelu_pytorch_tanh"}
    model = transformers.ViTForImageClassification(vit(**options))
    write_vit("vit_half", model, 5, mean, std, half=True, save_original_format=False)
    half = [0.5, 0.5, 0.5]
    write_vit("vit_model", transformers.ViTModel(vit(**VIT)), 6, half, half, processor=False)
    imagenet = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    model = transformers.DeiTForImageClassification(deit(**VIT))
    write_vit("deit", model, 7, *imagenet, processor=False)
    model = transformers.DeiTForImageClassificationWithTeacher(deit(**VIT))
    write_vit("deit_teacher", model, 8, *imagenet)


if __name__ == "__main__":
    main()
