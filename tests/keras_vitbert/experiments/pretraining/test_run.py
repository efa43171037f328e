"""A run of pre-training: its teachers, and the settings that may change."""

from keras_vitbert.experiments.pretraining.run import PretrainingRun
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.tiny_runs import config_of


def test_teachers_share_the_students_encoder(sources, tmp_path):
    flags = ["--config.distillation.ratio=0.5", "--config.seed=9", "--config.teachers.text_steps=0"]
    config = config_of(sources, *flags, "--config.teachers.image_steps=321")
    folder = RunFolder(str(tmp_path))
    run = PretrainingRun(config=config, folder=folder, machine=None, data=None)
    for kind, name, steps in (("image", "vit", 321), ("text", "bert", config.steps)):
        teacher = run.teacher_run(kind)
        assert teacher.variant.name == name
        assert teacher.folder.path == str(tmp_path / "teachers" / name)
        assert teacher.is_teacher and not run.is_teacher
        own = teacher.config
        assert (own.steps, own.distillation.ratio, own.merge.name) == (steps, 0.0, "sum")
        for field in ("model", "optimizer", "data", "seed", "image_batch_size", "text_batch_size"):
            assert own.value(field) == config.value(field)
    assert config.distillation.ratio == 0.5
