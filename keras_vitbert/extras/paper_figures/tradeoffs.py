"""How ways of merging gradients compare, from finished runs of both modalities."""

import dataclasses
from statistics import mean

from keras_vitbert.configs.merges import has_masks, parts_of
from keras_vitbert.configs.paper import get_config

# Validation metrics: the metric, its label, and whether more of it is better.
IMAGE_METRIC = "image_accuracy"
TEXT_METRICS = (
    ("mlm_loss", "masked-LM loss, nats (less is better)", False),
    ("nsp_accuracy", "next-sentence accuracy", True),
)


@dataclasses.dataclass(frozen=True)
class Point:
    """The runs of one way of merging, by the validation metrics of each."""

    label: str
    runs: list[dict[str, float]]

    def mean(self, metric: str) -> float:
        """The mean of a metric over the runs."""
        return mean(run[metric] for run in self.runs)


def points_of(runs: list[tuple[dict, dict]]) -> list[Point]:
    """Groups runs by how they merge gradients; the points come in the order of the runs.

    Args:
        runs: (record, validation): the content of `config.json`, and the metrics of
            `summary.json`, of runs with both modalities.
    """
    paper = get_config().to_dict()
    settings = [_settings(record["experiment"], paper) for record, _ in runs]
    values = {}
    for found in settings:
        for key, value in found.items():
            values.setdefault(key, set()).add(value)
    groups = {}
    for found, (_, validation) in zip(settings, runs, strict=True):
        # A value that all runs with an option share needs no mention, nor does a default.
        defaults = _settings({**paper, "merge": {**paper["merge"], "name": found["name"]}}, paper)
        others = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in found.items()
            if key != "name" and len(values[key]) > 1 and value != defaults[key]
        ]
        groups.setdefault(" ".join([found["name"], *others]), []).append(validation)
    return [Point(label, found) for label, found in groups.items()]


def _settings(config, paper):
    """What distinguishes a way of merging: dict of an option to its value."""
    merge, name = config["merge"], config["merge"]["name"]
    found = {"name": name}
    for part in parts_of(name):
        found |= {f"{part}.{key}": value for key, value in merge.get(part, {}).items()}
    if has_masks(name):
        found |= {key: merge[key] for key in paper["merge"] if key.startswith("mask_")}
    if "sum" in parts_of(name) or merge["blocks"]:
        found["image_loss_ratio"] = merge["image_loss_ratio"]
    found |= {"per_block": merge["per_block"], "blocks": merge["blocks"]}
    return found | {"distillation": config["distillation"]["ratio"]}


def front(points: list[Point], text_metric: str, more_is_better: bool) -> list[Point]:
    """The points for which no other is at least as good in both metrics and better in one.

    The other metric is the accuracy of images, by which they are sorted. `more_is_better` is about
    the text metric.
    """
    sign = 1 if more_is_better else -1
    at = {id(p): (p.mean(IMAGE_METRIC), sign * p.mean(text_metric)) for p in points}

    def is_beaten(point):
        x, y = at[id(point)]
        others = (at[id(other)] for other in points if other is not point)
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in others)

    return sorted((p for p in points if not is_beaten(p)), key=lambda p: at[id(p)])
