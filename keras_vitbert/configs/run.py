"""What the configs of pre-training and of fine-tuning have in common."""

import dataclasses
import math
from typing import ClassVar, Self

from keras_vitbert.configs.devices import DTYPES, JIT_COMPILE, SHARDINGS, Devices
from keras_vitbert.configs.optimizers import Optimizer
from keras_vitbert.configs.sections import Section, choice, ranged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Section):
    """All settings of a run that change its numbers, and how it computes and keeps them."""

    optimizer: Optimizer
    # Of the first run; a fine-tuning with several counts up
    seed: int = ranged(0, "[0, 4294967295]")
    dtype: str = choice("auto", DTYPES)  # mixed_bfloat16 on TPUs and newer GPUs, else float32
    # XLA compiles the step on a single GPU; or on, off
    jit_compile: str = choice("auto", JIT_COMPILE)
    # Or fsdp: JAX shards weights and moments across devices
    sharding: str = choice("replicated", SHARDINGS)
    # Parts of a replica's batch, one after another, to save memory.
    accumulation: int = ranged(1, "[1, inf)")
    remat: bool = False  # compute blocks again in the backward pass, to save memory
    steps: int
    steps_per_epoch: int  # between two lines in metrics.csv and TensorBoard
    # Between returns to the host, a divisor of all other steps; 0: 1, GPUs up to 10, TPUs 100.
    steps_per_execution: int = ranged(0, "[0, inf)")
    checkpoint_interval: int  # steps
    checkpoints_to_keep: int

    # Steps at which an execution ends, see `ends`.
    ENDS: ClassVar[tuple[str, ...]] = ("steps", "steps_per_epoch", "checkpoint_interval")

    def __post_init__(self):
        super().__post_init__()
        executed = max(self.steps_per_execution, 1)
        for field, steps in self.ends().items():
            wanted = f"a divisor of {field}, which is {steps}"
            self.require(steps % executed == 0, "steps_per_execution", wanted)

    def ends(self) -> dict[str, int]:
        """Steps at which an execution must end, by their fields; without those still open."""
        steps = {field: self.value(field) for field in self.ENDS}
        return {field: number for field, number in steps.items() if number > 0}

    def with_executions(self, most: int) -> Self:
        """`steps_per_execution`, if 0, becomes the largest number up to `most` that fits."""
        if self.steps_per_execution:
            return self
        common = math.gcd(*self.ends().values())
        executed = max(n for n in range(1, most + 1) if common % n == 0)
        return dataclasses.replace(self, steps_per_execution=executed)

    @property
    def augmentations(self) -> tuple[dict, ...]:
        """The layers that the step applies to images."""
        return ()

    def unread(self) -> dict[str, str]:
        """Fields that have no effect beside others, each with the reason."""
        return {f"optimizer.{field}": why for field, why in self.optimizer.unread().items()}

    def for_devices(self, devices: Devices) -> Self:
        """The config with what `auto` and 0 leave to the devices.

        Raises:
            ValueError: the devices cannot do what the config asks for.
        """
        devices.check(self.sharding, self.augmentations)
        return dataclasses.replace(
            self,
            dtype=devices.dtype(self.dtype),
            jit_compile=devices.jit_compile(self.jit_compile, self.augmentations),
        )
