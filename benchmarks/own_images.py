"""Your own small images: the README's fine-tuning command against other classifiers.

    python -m benchmarks.own_images [--checkpoint=runs/sample-vitbert] [--folder=DIR] [--seeds=1]

The images are scikit-learn's 1,797 digits (8 x 8 pixels; every fifth is for the test), or those of
DIR, which holds train/CLASS/ and test/CLASS/. The README's command is run as it is, from the
checkpoint and from random weights of the same architecture; with several seeds the median is
reported. It is compared with ridge regression on the pixels, whose strength leave-one-out picks,
and with a Keras CNN of two convolutions, trained for as many seconds as the first command took per
seed.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np


def main() -> None:
    """Runs the benchmark."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--checkpoint", default="runs/sample-vitbert")
    parser.add_argument("--folder", help="with train/CLASS/ and test/CLASS/")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output_dir", default="runs/own-images")
    values = parser.parse_args()
    output = pathlib.Path(values.output_dir)
    folder = pathlib.Path(values.folder) if values.folder else _write_digits(output / "digits")
    results, seconds = {}, 0.0
    for name, flags in {
        "checkpoint": [f"--checkpoint={values.checkpoint}"],
        "random weights": ["--checkpoint=rand", f"--architecture={values.checkpoint}"],
    }.items():
        began, path = time.time(), output / f"{folder.name}-{name.split()[-1]}"
        flags += [f"--data_dir={folder}", f"--output_dir={path}"]
        flags += [f"--seeds={values.seeds}"] if values.seeds > 1 else []
        subprocess.run([sys.executable, "-m", "keras_vitbert.finetune", *flags], check=True)
        results[f"from {name}"] = json.loads((path / "summary.json").read_text())["value"]
        seconds = seconds or (time.time() - began) / values.seeds
    data = *_read(folder / "train"), *_read(folder / "test")
    results["ridge regression on pixels"] = _ridge(*data)
    accuracy, epochs = _cnn(*data, seconds)
    results[f"CNN, {seconds:.0f} s ({epochs} epochs)"] = accuracy
    for name, value in results.items():
        print(f"{name:<32}{value:.4f}")


def _write_digits(folder):
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for place, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / ("train" if place % 5 else "test") / str(label) / f"{place:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(path)
    return folder


def _read(folder):
    """Images in [0, 1], all of the size of the first, and labels."""
    from PIL import Image

    classes = sorted(path.name for path in folder.iterdir())
    files = [(file, n) for n, name in enumerate(classes) for file in (folder / name).iterdir()]
    size = Image.open(files[0][0]).size
    pixels = [np.asarray(Image.open(path).convert("RGB").resize(size)) for path, _ in files]
    return np.array(pixels, np.float32) / 255, np.array([label for _, label in files])


def _ridge(images, labels, test_images, test_labels):
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(images.reshape(len(images), -1))
    flat, test = (scaler.transform(x.reshape(len(x), -1)) for x in (images, test_images))
    model = RidgeClassifierCV(np.logspace(-1, 5, 13)).fit(flat, labels)
    return float(model.score(test, test_labels))


def _cnn(images, labels, test_images, test_labels, seconds):
    """The accuracy of a small CNN after some seconds, and its epochs."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(int(labels.max()) + 1, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    began, epochs = time.time(), 0
    while time.time() - began < seconds:
        model.fit(images, labels, batch_size=64, verbose=0)
        epochs += 1
    return float(model.evaluate(test_images, test_labels, verbose=0)[1]), epochs


if __name__ == "__main__":
    main()
