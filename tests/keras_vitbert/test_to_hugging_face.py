"""`convert --format=hugging_face`: what transformers read, and what comes back."""

import io
import json
import os

import keras
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from keras_vitbert import convert
from keras_vitbert.trained.hugging_face_folder import HuggingFaceModel
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.command_line import run
from pipelines.images.image_decoding import central_crop
from tests.keras_vitbert.trained.stored_models import FIXTURES


def stored(folder):
    """All tensors of a folder of Hugging Face."""
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= safetensors.numpy.load_file(file)
    return found


def convert_to(folder, source):
    flags = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=hugging_face"]
    assert run(convert.main, flags) == 0


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        *((name, {}) for name in ("bert_classifier", "vit", "deit_teacher")),
        # Both names of one bias; transformers use the latter alone.
        ("untied", {"cls.predictions.bias": "cls.predictions.decoder.bias"}),
    ],
)
def test_to_hugging_face_and_back_is_the_identity(name, renamed, tmp_path):
    source, folder = FIXTURES / name, tmp_path / "there"
    convert_to(folder, source)
    before, after = stored(source), stored(folder)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], before.get(renamed.get(key), value), err_msg=key)
        assert after[key].dtype == value.dtype == np.float32
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (folder, source))
    for key, value in theirs.items():
        if key in ours and key not in ("hidden_act", "label2id"):  # the latter may lack there
            assert ours[key] == value, key
    again = load(str(folder))
    for a, b in zip(load(str(source)).network.weights, again.network.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


@pytest.fixture
def model(make_network):
    """`model(central_crop=1.0, **changes)`: a network, to be written."""

    def model(central_crop=1.0, **changes):
        network = make_network(**changes)
        heads = {"image": network.image_head, "mlm": network.mlm_head}
        heads = {name: head for name, head in heads.items() if head is not None}
        options = {"network": network, "central_crop": central_crop}
        return HuggingFaceModel(TrainedModel("p", "n", network.backbone, heads, **options))

    return model


def test_what_has_no_place_is_left_out_or_refused(model):
    found = model()
    assert found.architecture == "ViTModel"
    assert found.left_out == ["the text side", "the image head (paper)"]
    found = model(norm="post", images=False)
    assert found.architecture == "BertModel" and len(found.left_out) == 2
    found = model(norm="post", images=False, text_head="bert")
    assert (found.architecture, found.left_out) == ("BertForPreTraining", [])
    for changes, culprit in (
        ({"images": False}, "text side"),
        ({"norm": "post", "embedding_scale": 50.0}, "embeddings"),
        ({"text": False, "norm": "post"}, "image side"),
    ):
        with pytest.raises(ValueError, match=culprit):
            model(**changes)


def test_the_factor_of_a_vits_positions_goes_into_them(model, make_network, tmp_path):
    changes = {"text": False, "image_head": "vit", "embedding_scale": 50.0}
    model(**changes).write(str(tmp_path))
    again = load(str(tmp_path))
    assert again.backbone.embedding_scale == 1
    images = {"images": np.random.default_rng(0).random((2, 6, 6, 3), np.float32)}
    pair = make_network(**changes), again
    ours, theirs = (m.backbone(images)["image_sequence"] for m in pair)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_the_processor_sees_what_evaluation_sees(model, tmp_path, crop):
    size = {"image_size": 56, "patch_size": 8}
    model(crop, text=False, image_head="vit", **size).write(str(tmp_path))
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())

    rough = (np.random.default_rng(0).random((2, 3, 3)) * 255).astype(np.uint8)
    image = Image.fromarray(rough).resize((480, 320), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    edge, side = config["size"]["shortest_edge"], config["crop_size"]["height"]
    resized = image.resize((round(edge * 1.5), edge), config["resample"])
    left, top = (resized.width - side) // 2, (resized.height - side) // 2
    theirs = np.asarray(resized.crop((left, top, left + side, top + side)), np.float64)
    ours = central_crop(encoded.getvalue(), 56, crop).numpy()
    assert np.abs(theirs - ours).mean() < 1  # squashed, the pictures are 25 apart


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_classifier", "distilbert", "deit_teacher"])
def test_transformers_read_what_is_written(name, tmp_path):
    """All weights, and nothing else; the tokenizer and the image processor with them."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source, folder = str(FIXTURES / name), str(tmp_path / "there")
    convert_to(folder, source)
    config = json.loads(open(os.path.join(folder, "config.json")).read())
    architecture = getattr(transformers, config["architectures"][0])
    model, info = architecture.from_pretrained(folder, output_loading_info=True)
    assert not {key: found for key, found in info.items() if found}
    trained = load(source)
    if trained.vocabulary is None:
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        np.testing.assert_allclose(processor.image_mean, trained.backbone.image_mean)
        images = np.random.default_rng(0).random((2, *[trained.backbone.image_size] * 2, 3))
        pixels = (images - processor.image_mean) / processor.image_std
        pixels = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
        inputs, ours = {"pixel_values": pixels}, {"images": images.astype(np.float32)}
        stream = "image"
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        inputs = tokenizer(["word1 WORD2", "word3 word0"], ["word4", "word5"], return_tensors="pt")
        assert inputs["input_ids"][0].tolist() == [2, 6, 7, 3, 9, 3]
        assert tokenizer.model_max_length == trained.backbone.max_sequence_length
        names = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
        names["padding_mask"] = "attention_mask"
        ours = {name: inputs[theirs].numpy() for name, theirs in names.items()}
        stream = "text"
    with torch.no_grad():
        theirs = model.eval()(**inputs, output_hidden_states=True).hidden_states
    last = f"{stream}_block_{trained.backbone.num_layers - 1}"
    outputs = keras.Model(trained.backbone.inputs, trained.backbone.block_outputs)(ours)
    scale = float(theirs[-1].abs().max())
    np.testing.assert_allclose(outputs[last], theirs[-1], rtol=0, atol=1e-5 * scale)
