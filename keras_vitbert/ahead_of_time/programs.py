"""Steps as separate programs, without data, including those of any Keras model or function.

`keras_vitbert.ahead_of_time.step_programs` makes the steps of this project's runs.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable
from typing import Any

from pipelines.command_line import one_line

_RETURNS = "must return a compiled keras.Model, or a step, and a batch: arrays or tf.TensorSpec"


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """What one replica executes in one step.

    Attributes:
        name: str: train, mask update, probe, validate or evaluate.
        step: callable of a batch, for `strategy.run`.
        batch: nested structure of `tf.TensorSpec`, a replica's batch.
        model: for a step that changes nothing, the `keras.Model` whose weights it reads; else None.
    """

    name: str
    step: Callable
    batch: Any
    model: Any = None


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of a run.

    Attributes:
        steps: list of `StepProgram`, the training step first.
        variables: list of the variables that are in memory whichever program runs.
        trainer: the `BaseTrainer`, whose `accumulation` a program uses when it is traced; None for
            other models.
    """

    steps: list[StepProgram]
    variables: list
    trainer: Any = None

    def resident_bytes(self, share_of=lambda shape: shape):
        """Bytes of the variables on each replica.

        Args:
            share_of: function from a variable's shape to that of a replica's part.
        """
        import tensorflow as tf

        return sum(math.prod(share_of(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)


class OwnStep:
    """The user's own model or step: `module:function`.

    The function is called without arguments, under the strategy of the devices. It returns a pair.
    The first is a compiled `keras.Model`, whose `train_step` and `test_step` are the programs, or a
    step, a function of a replica's batch. The second is the batch of a step over all replicas, as
    `fit` takes it: nested arrays or `tf.TensorSpec`, whose first axis is that of the examples.

    Args:
        name: str, `module:function`.

    Attributes:
        examples: int, of a step over all replicas.

    Raises:
        ValueError: there is no such module or function, or it returns something else.
    """

    def __init__(self, name):
        self.name = name
        module, _, function = name.partition(":")
        try:
            self._build = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{name}: {one_line(error)}; give MODULE:FUNCTION") from error
        self.examples = _examples(name, self._built()[1])

    def programs(self, strategy, changes):
        """The programs, as `proof.Subject.programs` makes them.

        Args:
            strategy: `tf.distribute.Strategy`.
            changes: dict with `examples`, of a step over all replicas.

        Returns:
            `Programs`.

        Raises:
            ValueError: the replicas cannot share the examples.
        """
        import keras
        import tensorflow as tf

        replicas, examples = strategy.num_replicas_in_sync, changes.get("examples", self.examples)
        if examples % replicas:
            raise ValueError(
                f"{self.name}: {examples} examples do not divide over {replicas} replicas"
            )
        with strategy.scope():
            made, batch = self._built()
        share = examples // replicas
        batch = tf.nest.map_structure(
            lambda x: tf.TensorSpec((share, *x.shape[1:]), tf.as_dtype(x.dtype)), batch
        )
        if not isinstance(made, keras.Model):
            return Programs([StepProgram("train", made, batch)], [])
        zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), batch)
        made._maybe_symbolic_build(data_batch=zeros)  # its metrics are variables, too
        steps = [
            StepProgram("train", made.train_step, batch),
            StepProgram("validate", made.test_step, batch),
        ]
        variables = [*made.variables, *made.optimizer.variables, *made.metrics_variables]
        return Programs(steps, list({id(v): v for v in variables}.values()))

    def _built(self):
        import keras

        made = self._build()
        is_pair = isinstance(made, tuple) and len(made) == 2 and callable(made[0])
        if not is_pair or isinstance(made[0], keras.Model) and not made[0].compiled:
            raise ValueError(f"{self.name}: {_RETURNS}")
        return made


def _examples(name, batch):
    """The size of the first axis of a batch."""
    import tensorflow as tf

    shapes = [getattr(x, "shape", ()) for x in tf.nest.flatten(batch)]
    sizes = {shape[0] if len(shape) else None for shape in shapes}
    if len(sizes) != 1 or not isinstance(size := sizes.pop(), int):
        raise ValueError(f"{name}: {_RETURNS}, all with as many examples in their first axis")
    return size
