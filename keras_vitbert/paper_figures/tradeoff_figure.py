"""Figure 2's counterpart: text metrics against an image metric, one point per way of merging."""

import dataclasses
from statistics import mean

from keras_vitbert.configs.merges import has_masks, parts_of
from keras_vitbert.configs.paper import get_config
from keras_vitbert.inspection.sheet import FAINT, INK, PAGE, TEXT_SIZE, Sheet, shades, shortened

# Validation metrics: the metric, its label, and whether more of it is better.
_IMAGE = "image_accuracy", "image accuracy", True
_TEXT = (
    ("mlm_loss", "masked-LM loss, nats (less is better)", False),
    ("nsp_accuracy", "next-sentence accuracy", True),
)
_HEIGHT, _LEFT, _GAP, _BELOW = 2.2, 0.6, 0.6, 0.45  # inches
_LINE, _COLUMNS = 0.12, 3  # of the list of names


@dataclasses.dataclass(frozen=True)
class Point:
    """The runs of one way of merging.

    Attributes:
        label: str.
        runs: list of dict, the validation metrics of each.
    """

    label: str
    runs: list

    def mean(self, metric):
        """The mean of a metric over the runs: float."""
        return mean(run[metric] for run in self.runs)


def points_of(runs):
    """Groups runs by how they merge gradients.

    Args:
        runs: list of (record, validation): the content of `config.json`, and the metrics of
            `summary.json`, of runs with both modalities.

    Returns:
        list of `Point` in the order of the runs.
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


def front(points, text_metric, more_is_better):
    """The points for which no other is at least as good in both metrics and better in one.

    Args:
        points: list of `Point`.
        text_metric: str; the other metric is the accuracy of images.
        more_is_better: bool, for the text metric.

    Returns:
        list of `Point`, sorted by image accuracy.
    """
    sign = 1 if more_is_better else -1
    at = {id(p): (p.mean(_IMAGE[0]), sign * p.mean(text_metric)) for p in points}

    def is_beaten(point):
        x, y = at[id(point)]
        others = (at[id(other)] for other in points if other is not point)
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in others)

    return sorted((p for p in points if not is_beaten(p)), key=lambda p: at[id(p)])


def draw(points):
    """Two axes, and a list of the numbers that label the points.

    Args:
        points: list of `Point`, at least one.

    Returns:
        `Sheet`.
    """
    lines = -(-len(points) // _COLUMNS)
    height = _HEIGHT + _BELOW + _LINE * (lines + 3)
    note = "A number is a way of merging, at the mean of its runs; small points are the runs."
    sheet = Sheet(PAGE, height, "What merging gives to images and to text", note)
    width = (PAGE - _LEFT - _GAP) / 2 - 0.12
    colour = shades(1)[0]
    fronts = set()
    for place, (metric, label, more_is_better) in enumerate(_TEXT):
        left = _LEFT + place * (width + _GAP)
        axes = sheet.axes(left, sheet.top + 0.1, width, _HEIGHT, label=metric)
        axes.set_xlabel(_IMAGE[1])
        axes.set_ylabel(label)
        best = front(points, metric, more_is_better)
        fronts |= {point.label for point in best}
        line = [(point.mean(_IMAGE[0]), point.mean(metric)) for point in best]
        axes.plot(*zip(*line, strict=True), "-", color=colour, linewidth=0.8, zorder=1)
        for number, point in enumerate(points, start=1):
            x, y = point.mean(_IMAGE[0]), point.mean(metric)
            for run in point.runs if len(point.runs) > 1 else ():
                axes.plot(run[_IMAGE[0]], run[metric], ".", color=FAINT, markersize=2, zorder=0)
            is_best = point in best
            face = colour if is_best else "white"
            axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=3.5, zorder=2)
            axes.annotate(str(number), (x, y), (3, 2), textcoords="offset points", color=INK)
        if not more_is_better:
            axes.invert_yaxis()
        axes.margins(0.12)
    top = sheet.top + 0.1 + _HEIGHT + _BELOW
    sheet.text(_LEFT, top, "filled, bold: on a Pareto front", size=TEXT_SIZE)
    column = (PAGE - _LEFT) / _COLUMNS
    for number, point in enumerate(points, start=1):
        runs = f" ({len(point.runs)} runs)" if len(point.runs) > 1 else ""
        weight = "bold" if point.label in fronts else "normal"
        words = shortened(f"{number}  {point.label}{runs}", column - 0.1, weight=weight)
        place, line = divmod(number - 1, lines)
        sheet.text(_LEFT + place * column, top + _LINE * (line + 1.3), words, weight=weight)
    return sheet
