"""Figure 2's counterpart: how ways of merging gradients compare, from runs of both modalities."""

import dataclasses
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_vitbert.configs.merges import Merge
from keras_vitbert.configs.pretraining import Distillation, Pretraining
from keras_vitbert.configs.sections import flatten
from keras_vitbert.inspection.drawing import FAINT, PAGE, PRINT, new_figure, shades

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


def points_of(runs: list[tuple[Pretraining, dict[str, float]]]) -> list[Point]:
    """Groups runs, (config, validation metrics), by how they merge gradients, in their order."""
    settings = [_settings(config.merge, config.distillation.ratio) for config, _ in runs]
    values: dict[str, set] = {}
    for options in settings:
        for key, value in options.items():
            values.setdefault(key, set()).add(value)
    groups: dict[str, list] = {}
    for options, (config, validation) in zip(settings, runs, strict=True):
        # A value that all runs with an option share needs no mention, nor does a default.
        defaults = _settings(Merge(name=config.merge.name), Distillation().ratio)
        others = [
            f"{key.rpartition('.')[2]}={value}"
            for key, value in options.items()
            if key != "name" and len(values[key]) > 1 and value != defaults.get(key)
        ]
        groups.setdefault(" ".join([config.merge.name, *others]), []).append(validation)
    return [Point(label, members) for label, members in groups.items()]


def _settings(merge: Merge, distillation: float) -> dict[str, Any]:
    """The options that a way of merging reads."""
    options, unread = flatten(merge), merge.unread()
    read = {key: value for key, value in options.items() if key not in unread}
    return read | {"distillation": distillation}


def front(points: list[Point], text_metric: str, more_is_better: bool) -> list[Point]:
    """The Pareto front of image accuracy and a text metric, sorted by image accuracy.

    No other point is at least as good in both and better in one.
    """
    sign = 1 if more_is_better else -1
    at = {id(p): (p.mean(IMAGE_METRIC), sign * p.mean(text_metric)) for p in points}

    def is_beaten(point: Point) -> bool:
        x, y = at[id(point)]
        others = (at[id(other)] for other in points if other is not point)
        return any(a >= x and b >= y and (a, b) != (x, y) for a, b in others)

    return sorted((p for p in points if not is_beaten(p)), key=lambda p: at[id(p)])


def tradeoff_figure(points: list[Point]) -> Figure:
    """Figure 2's counterpart: text metrics against image accuracy, a point per way of merging."""
    title = "What merging gives to images and to text"
    note = (
        "A number is a way of merging, at the mean of its runs; small points are the runs.\n"
        "filled, bold: on a Pareto front"
    )
    lines = -(-len(points) // 3)
    figure = new_figure(PAGE, 3.1 + 0.13 * lines, title, dpi=PRINT)
    colour, best = shades(1)[0], set()
    for axes, (metric, label, more_is_better) in zip(
        figure.subplots(1, 2), TEXT_METRICS, strict=True
    ):
        axes.set(xlabel="image accuracy", ylabel=label, label=metric)
        on_front = front(points, metric, more_is_better)
        best |= {point.label for point in on_front}
        line = [(point.mean(IMAGE_METRIC), point.mean(metric)) for point in on_front]
        axes.plot(*zip(*line, strict=True), "-", color=colour, linewidth=0.8, zorder=1)
        for number, point in enumerate(points, start=1):
            if len(point.runs) > 1:
                pairs = [(run[IMAGE_METRIC], run[metric]) for run in point.runs]
                axes.plot(*zip(*pairs, strict=True), ".", color=FAINT, markersize=2, zorder=0)
            place = point.mean(IMAGE_METRIC), point.mean(metric)
            face = colour if point in on_front else "white"
            axes.plot(*place, "o", color=colour, markerfacecolor=face, zorder=2)
            axes.annotate(str(number), place, (3, 2), textcoords="offset points")
        if not more_is_better:
            axes.invert_yaxis()
        axes.margins(0.12)
    handles = []
    for number, point in enumerate(points, start=1):
        runs = f" ({len(point.runs)} runs)" if len(point.runs) > 1 else ""
        handles.append(Line2D([], [], linestyle="", label=f"{number}  {point.label}{runs}"))
    options = {"title": note, "alignment": "left", "handlelength": 0}
    legend = figure.legend(handles=handles, loc="outside lower left", ncols=3, **options)
    for text, point in zip(legend.get_texts(), points, strict=True):
        text.set(weight="bold" if point.label in best else "normal")
    return figure
