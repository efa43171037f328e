"""What a fine-tuning, an evaluation or a probe reads: a checkpoint, and the data of a task."""

import dataclasses
from typing import Any

from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS, FineTuning, dotted
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained, open_pretrained
from keras_vitbert.experiments.fine_tuning.task_data import TaskData, open_task
from keras_vitbert.experiments.fine_tuning.tasks import find_task
from pipelines.status import doing
from pipelines.tasks import own_data
from pipelines.tasks.own_examples import OwnExamples
from pipelines.text.casing import case_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """Names of what is read."""

    checkpoint: str  # what `keras_vitbert.load` takes, or `rand`
    architecture: str = ""  # of `rand`, see `open_pretrained`
    vocabulary: str = ""  # a file, for text if the checkpoint has none
    data_dir: str = ""  # own data, or TFDS' data folder
    images: str = ""  # own images, where texts are another task
    texts: str = ""  # own texts, likewise
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # paths by split
    download: bool = False  # whether TFDS may fetch missing data
    skip_damaged: int = 0  # rows of tables that may be left out
    # Own data that were read before, by the section of the config.
    own: dict[str, OwnExamples | None] = dataclasses.field(default_factory=dict)

    @classmethod
    def pop_from(cls, named: dict[str, Any]) -> "Inputs":
        """The inputs among named arguments, which it takes out."""
        names = [field.name for field in dataclasses.fields(cls) if field.name in named]
        return cls(**{name: named.pop(name) for name in names})

    def paths(self, task: str) -> list[str]:
        """Everything that is read, for outputs that must not be one of them."""
        named = [self.checkpoint, self.architecture, self.vocabulary, *self.files.values()]
        for name in task.split(","):
            if find_task(name).tfds:
                named.append(self.data_dir)
                continue
            data_dir = self._place(name)
            for place in own_data.find_splits(data_dir, self.files).values():
                # Those of records are patterns; a folder of tables holds other files, too.
                named += [data_dir] if place.form == own_data.RECORDS else place.paths
        return named

    def _place(self, task: str) -> str:
        """Where the data of a task are."""
        return {IMAGES: self.images, TEXTS: self.texts}.get(task) or self.data_dir

    def open_checkpoint(self, config: FineTuning) -> tuple[Pretrained, FineTuning]:
        """Opens the checkpoint; the config gets the case of its texts."""
        with doing(f"opening {self.checkpoint}"):
            opened = open_pretrained(
                self.checkpoint, self.architecture, self.vocabulary, config.modalities
            )
        for section, settings in config.tasks.items():
            if settings.kind == "text":
                where, asked = self.vocabulary or self.checkpoint, settings.value("data.case")
                case = case_of(where, opened.vocabulary or [], asked, opened.case)
                config = config.with_values({dotted(section, "data.case"): case})
        return opened, config

    def open_data(
        self,
        config: FineTuning,
        section: str,
        vocabulary: list[str] | None,
        max_length: int,
        **options: Any,
    ) -> TaskData:
        """Opens the data of a task; `options` are further arguments of `open_task`."""
        task = find_task(config.tasks[section].task)
        options |= {name: getattr(self, name) for name in ("files", "download", "skip_damaged")}
        options |= {"data_dir": self._place(task.name), "section": section}
        options["own"] = self.own.get(section)
        with doing("opening the data"):
            return open_task(task, config, vocabulary, max_length, **options)
