"""A client of an exported model that knows nothing of this project.

    python served_script.py MODEL REQUESTS ANSWERS

REQUESTS is an .npz of arrays of objects, encoded images or texts, each named as its signature. The
answers are written to ANSWERS as `SIGNATURE/OUTPUT`. It imports nothing but tensorflow,
tensorflow_text and numpy, which tensorflow brings; the project's packages and keras_hub cannot be
imported.
"""

import importlib.abc
import sys

ABSENT = ("keras_vitbert", "pipelines", "tpu", "keras_hub", "keras_nlp", "keras_cv")


class Absent(importlib.abc.MetaPathFinder):
    """Makes packages as good as not installed."""

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}: it must not be needed")


def main(model, requests, answers):
    sys.meta_path.insert(0, Absent())

    import numpy as np
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  whose operations the graph holds

    signatures = tf.saved_model.load(model).signatures
    results = {}
    for signature, values in np.load(requests, allow_pickle=True).items():
        name = "image" if signature.endswith("image") else "text"
        found = signatures[signature](**{name: tf.constant(values.tolist())})
        results.update({f"{signature}/{key}": value.numpy() for key, value in found.items()})
    np.savez(answers, **results)
    assert not set(ABSENT) & {name.partition(".")[0] for name in sys.modules}


if __name__ == "__main__":
    main(*sys.argv[1:])
