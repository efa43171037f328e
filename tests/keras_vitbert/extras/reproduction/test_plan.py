"""Which runs there are, which are shared, and in which order they run."""

import json

import pytest

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.experiment import experiment
from keras_vitbert.extras.reproduction.plan import Plan, get_scale
from keras_vitbert.extras.reproduction.tables import tables
from keras_vitbert.reproduce import SCALES
from tests.documents.markdown import ROOT

FIGURES = ("figure3", "figure4", "figure5", "figure6")


def planned(scale, *names, seeds=0, given=None, output="/out"):
    plan = Plan(get_scale(scale, f"{output}/data", given or {}), output, seeds)
    for name in names:
        plan.add(name)
    return plan


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_job_needs_comes_first(scale):
    plan, seen = planned(scale, *tables(), *FIGURES, seeds=2), set()
    for name, job in plan.jobs.items():
        assert job.name == name and seen.issuperset({*job.needs, job.rate_of} - {""})
        assert {f"/out/{need}" for need in job.needs} <= {
            path for given in job.inputs.values() for path in ([given] if job.experiment else given)
        }
        seen.add(name)


def test_each_job_changes_values_of_its_config():
    """Two recipes would be the same run otherwise."""
    config = flatten(load_config("paper"))
    for row in (row for table in tables().values() for row in table.rows):
        assert all(config[field] != value for field, value in row.recipe.changes)
    plan = planned("small", *tables())
    settings = [job.settings("/out") for job in plan.jobs.values()]  # checks all values
    assert len(set(settings)) == len(settings)


def test_names_are_those_of_the_committed_results():
    jobs = json.loads((ROOT / "docs" / "reproduction" / "small.json").read_text())["units"]
    plan = planned("small", *tables(), *FIGURES[:3])
    assert jobs.keys() == plan.jobs.keys()


def test_a_student_and_its_teachers():
    plan = planned("small", "figure2", seeds=3, given={"steps": 700})
    job = plan.jobs["pretrain/vitbert-mask_ratio=0.3-s2"]
    assert job.needs == ("pretrain/vit-s2", "pretrain/bert-s2")
    assert job.inputs["image_teacher"] == "/out/pretrain/vit-s2"
    assert job.inputs["text_teacher"] == "/out/pretrain/bert-s2"
    config = experiment(job.experiment, **job.values)
    assert (config.merge.mask_ratio, config.seed, config.variant) == (0.3, 2, "vitbert")
    assert config.steps == 700 and config.data.text.train == "/out/data/text/train-*"


def test_the_first_seed_picks_the_rate():
    jobs = planned("small", "table1", seeds=2).jobs
    first, second = (jobs[f"finetune/next/vit-s{seed}"] for seed in range(2))
    assert first.inputs["sweep"] and not first.rate_of
    assert "sweep" not in second.inputs and second.rate_of == first.name
    assert second.inputs["checkpoint"] == "/out/pretrain/vit-s1"
    assert second.inputs["vocabulary"] and second.values["seed"] == 1
    assert not any("sweep" in job.inputs for job in jobs.values() if job.kind == "probe")


def test_figure_6_shows_fine_tuned_runs_and_the_images_of_their_task():
    job = planned("small", "figure6").jobs["figures/6-s0"]
    names = ("vitbert", "joint")
    assert job.needs == tuple(f"finetune/{t}/{n}-s0" for t in ("cifar10", "next") for n in names)
    assert job.inputs["runs"] == [f"/out/{need}" for need in job.needs]
    assert (job.inputs["number"], job.inputs["images"]) == ("6", "/out/data/cifar10/task")


def test_settings_are_all_that_makes_a_run():
    def settings(name, output="/out", **values):
        jobs = planned("small", "table1", given=values, output=output).jobs
        return jobs[name].settings(output)

    name = "pretrain/vitbert-s0"
    assert settings(name) == settings(name, output="/elsewhere")
    assert settings(name) != settings(name, steps=700)
    assert len({settings(f"{kind}/next/vit-s0") for kind in ("probe", "finetune")}) == 2
