"""Which runs are one point of Figure 2, and which points are on the Pareto front."""

import itertools

import numpy as np
import pytest

from keras_vitbert.configs.loading import load_config
from keras_vitbert.extras.paper_figures.tradeoffs import Point, front, points_of


def run(name, image=0.5, loss=6.0, **options):
    values = {f"merge.{option}": value for option, value in options.items()}
    config = load_config("paper").with_values({"merge.name": name, **values})
    metrics = {"image_accuracy": image, "mlm_loss": loss, "nsp_accuracy": 0.6}
    return config, metrics


def labels(*runs):
    return {point.label: len(point.runs) for point in points_of(list(runs))}


def test_labels_name_what_differs():
    assert labels(run("nash"), run("mask"), run("nash")) == {"nash": 2, "mask": 1}
    # Options of a merge that is not used distinguish nothing.
    assert labels(run("sum"), run("sum", mask_ratio=0.1)) == {"sum": 2}
    # Defaults need no words.
    found = labels(run("cagrad"), run("cagrad", **{"cagrad.radius": 0.2}), run("nash"))
    assert found == {"cagrad": 1, "cagrad radius=0.2": 1, "nash": 1}
    config, metrics = run("nash")
    other = config.with_values({"distillation.ratio": 0.0}), metrics
    assert labels(run("nash"), other) == {"nash": 1, "nash distillation=0.0": 1}


@pytest.mark.parametrize("more_is_better", [True, False])
def test_front_by_brute_force(more_is_better):
    for values in np.random.default_rng(0).integers(0, 6, (30, 8, 2)):  # with ties
        points = [Point(str(n), [{"image_accuracy": x, "m": y}]) for n, (x, y) in enumerate(values)]
        beaten = set()
        for (n, a), (_, b) in itertools.permutations(enumerate(values.tolist()), 2):
            text = b[1] - a[1] if more_is_better else a[1] - b[1]
            if b[0] >= a[0] and text >= 0 and (b[0] > a[0] or text > 0):
                beaten.add(str(n))
        found = front(points, "m", more_is_better)
        assert {p.label for p in found} == {p.label for p in points} - beaten
        assert [p.mean("image_accuracy") for p in found] == sorted(
            p.mean("image_accuracy") for p in found
        )
