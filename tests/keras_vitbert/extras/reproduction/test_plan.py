"""Which runs there are, which are shared, and in which order they run."""

import json

import pytest

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.sections import flatten
from keras_vitbert.experiments.experiment import experiment
from keras_vitbert.extras.reproduction.plan import Plan, get_scale
from keras_vitbert.extras.reproduction.tables import PAPER, tables
from keras_vitbert.reproduce import SCALES
from tests.documents.markdown import ROOT

FIGURES = ("figure3", "figure4", "figure5", "figure6")


def planned(scale, *names, seeds=0, given=None, output="/out"):
    plan = Plan(get_scale(scale, f"{output}/data", given or {}), output, seeds)
    for name in names or (*plan.tables, *(FIGURES if scale != "transfer" else ())):
        plan.add(name)
    return plan


@pytest.mark.parametrize("scale", sorted({*SCALES} - {"small"}))  # which is not run
def test_what_a_job_needs_comes_first(scale):
    plan, seen = planned(scale, seeds=2), set()
    for name, job in plan.jobs.items():
        assert job.name == name and seen.issuperset({*job.needs, *job.rates_of})
        assert {f"/out/{need}" for need in job.needs} <= {
            path for given in job.inputs.values() for path in ([given] if job.experiment else given)
        }
        seen.add(name)


def test_each_job_changes_values_of_its_config():
    """Two recipes would be the same run otherwise."""
    config = flatten(load_config("paper"))
    for row in (row for table in tables().values() for row in table.rows):
        assert all(config[field] != value for field, value in row.recipe.changes)
    for plan in map(planned, ("sample", "transfer")):
        settings = [job.settings("/out") for job in plan.jobs.values()]  # checks all values
        assert len(set(settings)) == len(settings)


def test_names_are_those_of_the_committed_results():
    jobs = json.loads((ROOT / "docs" / "reproduction" / "small.json").read_text())["units"]
    plan = planned("small", *PAPER, *FIGURES[:3])
    assert jobs.keys() == plan.jobs.keys()


def test_a_student_and_its_teachers():
    plan = planned("sample", "figure2", seeds=3, given={"steps": 700})
    job = plan.jobs["pretrain/vitbert-mask_ratio=0.3-s2"]
    assert job.needs == ("pretrain/vit-s2", "pretrain/bert-s2")
    assert job.inputs["image_teacher"] == "/out/pretrain/vit-s2"
    assert job.inputs["text_teacher"] == "/out/pretrain/bert-s2"
    config = experiment(job.experiment, **job.values)
    assert (config.merge.mask_ratio, config.seed, config.variant) == (0.3, 2, "vitbert")
    assert config.steps == 700


def test_teachers_that_train_longer_are_those_of_all_seeds():
    plan = planned("transfer", "answers")
    students = [plan.jobs[f"pretrain/vitbert-s{seed}"] for seed in range(5)]
    assert {s.needs for s in students} == {
        ("pretrain/vit-steps=6000-s0", "pretrain/bert-steps=6000-s0")
    }
    steps = [experiment(j.experiment, **j.values).steps for j in
             (students[0], plan.jobs[students[0].needs[0]])]  # fmt: skip
    assert steps == [1_200, 6_000]
    config = experiment(students[1].experiment, **students[1].values)
    assert config.data.text.train == "/out/data/text/train-*"
    # The paper's 50,000 of a million steps.
    merge = config.merge
    assert merge.mask_updates * merge.mask_update_interval / config.steps == 0.05


def test_the_first_seed_picks_the_rate():
    jobs = planned("paper", "table1", seeds=2).jobs
    first, second = (jobs[f"finetune/sst2/vit-s{seed}"] for seed in range(2))
    assert first.inputs["sweep"] and not first.rates_of
    assert "sweep" not in second.inputs and second.rates_of == (first.name,)
    assert second.inputs["checkpoint"] == "/out/pretrain/vit-s1" and second.values["seed"] == 1
    assert not any("sweep" in job.inputs for job in jobs.values() if job.kind == "probe")


def test_a_pilot_picks_the_rate_of_all_rows():
    """By the row of its modality and random weights, with seeds of its own."""
    jobs = planned("transfer", "answers").jobs
    tuned = {n: j for n, j in jobs.items() if j.kind == "finetune" and "sweep" not in j.inputs}
    assert len(tuned) == 4 * 8 * 5 and not any(job.kind == "probe" for job in jobs.values())
    for task, own in (("cifar10", "vit"), ("next", "bert"), ("swapped", "bert")):
        pilot = {f"finetune/{task}/{row}-s{seed}" for row in (own, "rand") for seed in (100, 101)}
        rates = {job.rates_of for name, job in tuned.items() if f"/{task}/" in name}
        assert {*map(frozenset, rates)} == {frozenset(pilot)} and len(rates) == 1
        assert all(jobs[name].inputs["sweep"] for name in pilot)
    assert jobs["finetune/next/vit-s1"].inputs["vocabulary"]


def test_figure_6_shows_fine_tuned_runs_and_the_images_of_their_task():
    job = planned("sample", "figure6").jobs["figures/6-s0"]
    names = ("vitbert", "joint")
    assert job.needs == tuple(f"finetune/{t}/{n}-s0" for t in ("digits", "next") for n in names)
    assert job.inputs["runs"] == [f"/out/{need}" for need in job.needs]
    assert (job.inputs["number"], job.inputs["images"]) == ("6", "/out/data/digits")


def test_settings_are_all_that_makes_a_run():
    def settings(name, output="/out", **values):
        jobs = planned("transfer", "answers", given=values, output=output).jobs
        return jobs[name].settings(output)

    name = "pretrain/vitbert-s0"
    assert settings(name) == settings(name, output="/elsewhere")
    assert settings(name) != settings(name, steps=700)
    jobs = planned("sample", "table1").jobs
    of_kinds = {jobs[f"{kind}/next/vit-s0"].settings("/out") for kind in ("probe", "finetune")}
    assert len(of_kinds) == 2


def test_committed_runs_have_the_settings_of_today():
    """Or a config has changed in a way that makes them another experiment."""
    units = json.loads((ROOT / "docs/reproduction/transfer.json").read_text())["units"]
    jobs = planned("transfer", "controls", "answers").jobs
    assert {name: unit["settings"] for name, unit in units.items()} == {
        name: jobs[name].settings("/out") for name in units
    }
