"""Which runs there are, which are shared, and in which order they run."""

import pytest

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import VARIANTS
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.experiment import experiment
from keras_vitbert.extras.reproduction.plan import Plan, get_scale
from keras_vitbert.extras.reproduction.tables import FULL, RAND, tables
from keras_vitbert.reproduce import SCALES

FIGURES = ("figure3", "figure4", "figure5", "figure6")


def planned(scale, *names, seeds=0, **sources):
    plan = Plan(get_scale(scale, "/out/data", {}, **sources), "/out", seeds)
    for name in names:
        plan.add(name)
    return plan


def recipes(*names):
    return [row.recipe for name in names or tables({}) for row in tables({})[name].rows]


def test_tables_share_their_runs():
    def rows(name):
        return {row.name: row.recipe for row in tables({})[name].rows}

    one, two, three = rows("table1"), rows("table2"), rows("table3")
    assert two["1, 1"] == one["w/o GM"] and two["0, 1"] == one["Joint"] == three["0.2"]
    figure, merging = rows("figure2"), rows("merging")
    assert figure["0.5, magnitude"] == one["ViT-BERT"] == merging["mask"]
    assert merging["random_mask"] == figure["0.5, random"] and merging["sum"] == one["w/o GM"]
    # 7 and a random one; of Table 2 seven more, of Table 3 eight, of Figure 2 nine, five merges.
    assert len(set(recipes())) == 7 + 7 + 8 + 9 + 5
    assert len({recipe.name for recipe in set(recipes())}) == len(set(recipes()))


def test_recipes_are_of_the_config():
    """Each field is one of the config's, and its value is not the one that it has anyway."""
    flat = flatten(load_config("paper"))
    for recipe in recipes():
        assert recipe.variant in (RAND, *VARIANTS)
        for field, value in recipe.changes:
            assert flat[field] != value and isinstance(value, type(flat[field]) | int)


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_run_needs_comes_first(scale):
    plan, seen = planned(scale, *tables({}), *FIGURES, seeds=2), set()
    for name, run in plan.runs.items():
        assert run.name == name and seen.issuperset({*run.needs, run.rate_of} - {""})
        assert {f"/out/{need}" for need in run.needs} <= {
            path for given in run.inputs.values() for path in (given if run.of == "" else [given])
        }
        if run.of:
            experiment(run.of, **run.values)  # checks its values
        seen.add(name)


def test_a_student_and_its_teachers():
    plan = Plan(get_scale("small", "/out/data", {"steps": 700}), "/out", 3)
    plan.add("figure2")
    run = plan.runs["pretrain/vitbert-mask_ratio=0.3-s2"]
    assert run.needs == ("pretrain/vit-s2", "pretrain/bert-s2")
    assert run.inputs["image_teacher"] == "/out/pretrain/vit-s2"
    assert run.inputs["text_teacher"] == "/out/pretrain/bert-s2"
    config = experiment(run.of, **run.values)
    assert (config.merge.mask_ratio, config.seed, config.variant) == (0.3, 2, "vitbert")
    assert config.steps == 700 and config.data.text.train == "/out/data/text/train-*"


def test_the_first_seed_picks_the_rate():
    runs = planned("small", "table1", seeds=2).runs
    first, second = (runs[f"finetune/next/vit-s{seed}"] for seed in range(2))
    assert first.inputs["sweep"] and not first.rate_of
    assert "sweep" not in second.inputs and second.rate_of == first.name
    assert second.inputs["checkpoint"] == "/out/pretrain/vit-s1"
    assert second.inputs["vocabulary"] and second.values["seed"] == 1
    assert not any("sweep" in run.inputs for run in runs.values() if run.kind == "probe")


def test_a_checkpoint_of_another_project_is_not_trained():
    plan = Plan(get_scale("small", "/out/data", {}), "/out", originals={"bert": "hf://some/bert"})
    plan.add("table1")
    run = plan.runs["finetune/next/bert-original-s0"]
    assert run.inputs["checkpoint"] == "hf://some/bert" and not run.needs


def test_a_figure_is_drawn_of_a_run():
    run = planned("small", "figure4").runs["figures/4-vitbert-s0"]
    assert run.needs == ("pretrain/vitbert-s0",)
    assert run.inputs == {"number": "4", "runs": ["/out/pretrain/vitbert-s0"], "images": ""}


def test_figure_6_shows_fine_tuned_runs_and_the_images_of_their_task():
    run = planned("small", "figure6").runs["figures/6-s0"]
    names = ("vitbert", "joint")
    assert run.needs == tuple(f"finetune/{t}/{n}-s0" for t in ("cifar10", "next") for n in names)
    assert run.inputs["images"] == "/out/data/cifar10/task"
    run = planned("paper", "figure6", data_dir="/tfds").runs["figures/6-s0"]
    assert run.inputs["images"] == "/tfds" and run.needs[0] == f"finetune/mnli/{FULL.name}-s0"


def test_settings_are_all_that_makes_a_run():
    def settings(name, output="/out", **values):
        plan = Plan(get_scale("small", f"{output}/data", values), output)
        plan.add("table1")
        return plan.runs[name].settings(output)

    name = "pretrain/vitbert-s0"
    assert settings(name) == settings(name, output="/elsewhere")
    assert settings(name) != settings(name, steps=700)
    assert len({settings(f"{kind}/next/vit-s0") for kind in ("probe", "finetune")}) == 2
