"""What a backbone takes from another, and positions on another grid."""

import numpy as np
import pytest
from scipy import ndimage

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.transfer import interpolate_positions, transfer


def by_scipy(positions, grid):
    """Bilinear between the centres of patches, in float64; the border is extended."""
    old = round((positions.shape[1] - 1) ** 0.5)
    patches = np.float64(positions[0, 1:]).reshape(old, old, -1)
    zoom = (grid / old, grid / old, 1)
    resized = ndimage.zoom(patches, zoom, order=1, mode="nearest", grid_mode=True)
    return np.concatenate([positions[:, :1], resized.reshape(1, grid * grid, -1)], axis=1)


@pytest.mark.parametrize(("old", "new"), [(14, 24), (3, 2), (1, 4), (4, 4)])
def test_positions_on_another_grid(old, new):
    positions = np.random.default_rng(0).normal(size=(1, old * old + 1, 5)).astype(np.float32)
    ours = np.asarray(interpolate_positions(positions, new))
    # Places up to 14 are rounded by 1e-6 in float32, and neighbours differ by up to 5.
    np.testing.assert_allclose(ours, by_scipy(positions, new), atol=5e-6)


def values(layer):
    return {weight.path: np.asarray(weight.value) for weight in layer.weights}


@pytest.mark.parametrize(
    ("source", "modality"), [("joint", "image"), ("joint", "text"), ("text", "image")]
)
def test_what_is_kept(tiny, make_network, randomize, source, modality):
    network = make_network(seed=1, images=source != "text", text=source != "image")
    model = {**tiny, "image_size": 9, "max_sequence_length": 5}
    classifier = randomize(build_classifier(model, {modality: 4}), seed=2)
    before = values(classifier)
    done = transfer(network.backbone, classifier.backbone)
    after, theirs = values(classifier), values(network.backbone)
    kept = source in ("joint", modality)
    embedding = ("interpolated" if modality == "image" else "kept") if kept else "fresh"
    assert done == {"encoder": "kept", f"{modality}_embedding": embedding}
    for path, value in after.items():
        if path.startswith(("image_embedding", "text_embedding")) and not kept:
            wanted = before[path]
        elif path.endswith("image_embedding/position_embedding"):
            wanted = by_scipy(theirs[path], 3)
        elif path.endswith("text_embedding/position_embedding"):
            wanted = theirs[path][:, :5]
        else:
            wanted = before[path] if path.startswith("head") else theirs[path]
        np.testing.assert_allclose(value, wanted, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("change", "modality", "message"),
    [
        ({"num_layers": 1}, "image", "model.num_layers is 1, in the checkpoint 2"),
        ({"hidden_dim": 12}, "image", "shape"),
        ({"norm": "post"}, "image", "model.norm"),
        ({"image_mean": (0.1, 0.2, 0.3)}, "image", "model.image_mean"),
        ({"num_segments": 3}, "text", "model.num_segments"),
        ({"vocabulary_size": 14}, "text", r"\(14, 8\).*\(13, 8\)"),
        ({"max_sequence_length": 9}, "text", "the checkpoint has positions for 7 tokens, not 9"),
    ],
)
def test_other_shapes(tiny, network, change, modality, message):
    with pytest.raises(ValueError, match=message):
        transfer(network.backbone, build_classifier({**tiny, **change}, {modality: 4}).backbone)
