"""Which units there are, which are shared, and in which order they run."""

import pytest

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from keras_vitbert.reproduction.experiments import FULL, RAND, Recipe, experiments
from keras_vitbert.reproduction.plan import Planner
from keras_vitbert.reproduction.reproducing import Reproduction
from keras_vitbert.reproduction.scales import SCALES
from keras_vitbert.reproduction.units import ordered
from tests.keras_vitbert.configs.command_lines import parsed_config


@pytest.fixture(params=SCALES)
def scale(request):
    return SCALES[request.param]()


def recipes(*names):
    found = experiments({})
    return [row.recipe for name in names for row in found[name].rows]


def test_tables_share_their_runs():
    def rows(name):
        return {", ".join(row.label): row.recipe for row in experiments({})[name].rows}

    one, two, three = rows("table1"), rows("table2"), rows("table3")
    assert two["1, 1"] == one["w/o GM"] and two["0, 1"] == one["Joint"] == three["0.2"]
    figure, merging = rows("figure2"), rows("merging")
    assert figure["0.5, magnitude"] == one["ViT-BERT"] == merging["mask"]
    assert merging["random_mask"] == figure["0.5, random"] and merging["sum"] == one["w/o GM"]
    everything = set(recipes("table1", "table2", "table3", "figure2", "merging"))
    # 7 and a random one; of Table 2 seven more, of Table 3 eight, of Figure 2 nine, five merges.
    assert len(everything) == 7 + 7 + 8 + 9 + 5


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "figure2", "merging"])
def test_recipes_are_of_the_config(name):
    """Each key is one of the config's, and its value is not the one that it has anyway."""
    flat = flatten(load_config("paper"))
    for recipe in recipes(name):
        assert recipe.variant in (RAND, *VARIANTS)
        for key, value in recipe.changes:
            assert flat[key] != value and isinstance(value, type(flat[key]) | int)


def test_names_are_those_of_recipes():
    everything = set(recipes("table1", "table2", "table3", "figure2", "merging"))
    assert len({recipe.name for recipe in everything}) == len(everything)


def test_what_a_unit_needs_comes_first(scale):
    planner = Planner(scale)
    for name, experiment in experiments({}).items():
        for row in experiment.rows:
            for seed in range(2):
                for task in scale.tasks if experiment.tasks else ():
                    planner.fine_tuning(row.recipe, task, seed, range(2))
                if name == "table3":
                    planner.pretraining(row.recipe, seed)
    units = ordered(planner.units, planner.units)
    assert {unit.name for unit in units} == set(planner.units)
    seen = set()
    for unit in units:
        assert seen.issuperset(unit.needs) and (not unit.rate_of or unit.rate_of in seen)
        seen.add(unit.name)


def test_a_figure_is_drawn_of_a_run(scale):
    planner = Planner(scale)
    unit = planner.units[planner.figure("4", FULL, 0)]
    assert unit.needs == ("pretrain/vitbert-s0",) and not unit.has_summary
    assert unit.command("/out", "/data") == [
        *("-m", "keras_vitbert.figures", "--figures=4", "--run=/out/pretrain/vitbert-s0"),
        "--output=/out/figures/4-vitbert-s0",
    ]


@pytest.mark.parametrize("name", SCALES)
def test_figure_6_shows_fine_tuned_runs(name):
    scale = SCALES[name]()
    planner = Planner(scale)
    unit = planner.units[planner.examples((FULL, Recipe("joint")), 0, range(2))]
    first = {}
    for task in scale.tasks:
        first.setdefault(task.kind, task.name)
    assert set(first) == {"images", "text"} and unit.needs == tuple(
        f"finetune/{task}/{recipe}-s0" for task in first.values() for recipe in ("vitbert", "joint")
    )
    arguments = planner.units[f"finetune/{first['images']}/joint-s0"].arguments
    data = [flag for flag in arguments if "data_dir" in flag]
    assert len(data) == (name != "paper")  # whose data are where TFDS keeps them
    assert {flag.replace("data_dir", "images") for flag in data} == {
        flag for flag in unit.arguments if "images" in flag
    }


def test_figure_6_finds_the_images_of_tfds():
    planner = Planner(SCALES["paper"](), {"keras_vitbert.finetune": ("--x", "--data_dir=/tfds")})
    unit = planner.units[planner.examples((FULL,), 0, range(1))]
    assert unit.others == ("--images=/tfds",)


def test_a_student_and_its_teachers(scale):
    planner = Planner(scale)
    name = planner.pretraining(Recipe("vitbert", (("merge.mask_ratio", 0.3),)), 2)
    assert name == "pretrain/vitbert-mask_ratio=0.3-s2"
    unit = planner.units[name]
    assert unit.needs == ("pretrain/vit-s2", "pretrain/bert-s2")
    command = unit.command("/out", "/data")
    assert "--image_teacher=/out/pretrain/vit-s2" in command
    assert "--config.merge.mask_ratio=0.3" in command and "--config.seed=2" in command
    assert command[-1] == f"--output_dir=/out/{name}"


def test_pretraining_takes_all_recipes(scale):
    planner = Planner(scale)
    for recipe in recipes("table1", "table2", "table3", "figure2", "merging"):
        if recipe.is_pretrained_here:
            name = planner.pretraining(recipe, 1)
            config = parsed_config(*planner.units[name].arguments)
            assert all(flatten(config)[key] == value for key, value in recipe.changes)


def test_a_sweep_takes_longer_than_what_follows_it(tmp_path):
    """Three rates and the best one again: four trainings, and one for each further seed."""
    scale = SCALES["small"]()
    asked = scale, ["table1"], 2, str(tmp_path), str(tmp_path / "results.json"), {}, {}
    reproduction = Reproduction(*asked)
    name = "finetune/next/vit-s"
    first, second = (
        next(unit for unit in reproduction.units if unit.name == f"{name}{seed}")
        for seed in range(2)
    )
    entry = {"seconds": 400.0, "sweep": {"0.0003": 0.5, "0.001": 0.6, "0.003": 0.4}}
    reproduction.results.units[f"{name}0"] = entry
    assert reproduction.seconds([first]) == 400.0
    assert reproduction.seconds([second]) == 100.0
    reproduction.results.units[f"{name}1"] = {"seconds": 120.0, "sweep": {}}
    assert reproduction.seconds([first]) == 400.0
    assert reproduction.seconds([second]) == 110.0
