"""Steps as separate programs, without data, including those of any Keras model or function.

`keras_vitbert.extras.ahead_of_time.step_programs` makes the steps of this project's runs.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable
from typing import Any

from pipelines.command_line import one_line

_RETURNS = (
    "must return a compiled keras.Model, or a step, and a batch: arrays or tf.TensorSpec, all with "
    "as many examples in their first axis"
)


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """What one replica executes in one step.

    Attributes:
        name: train, mask update, probe, validate or evaluate.
        step: of a batch, for `strategy.run`.
        batch: nested `tf.TensorSpec`, a replica's batch.
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
        steps: the training step first.
        variables: those that are in memory whichever program runs.
        batch: `images`, `texts` or `examples` to their number in a step over all replicas.
        trainer: the `BaseTrainer`; None for other models.
        text_length: tokens of a text, padding included.
        run_steps: of the run; 0 where they are not known.
    """

    steps: list[StepProgram]
    variables: list
    batch: dict[str, int]
    trainer: Any = None
    text_length: int = 0
    run_steps: int = 0

    def resident_bytes(self, share_of: Callable = lambda shape: shape) -> int:
        """Bytes of the variables on each replica.

        Args:
            share_of: from a variable's shape to that of a replica's part.
        """
        import tensorflow as tf

        return sum(math.prod(share_of(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)


def own_programs(name: str, strategy: Any) -> Programs:
    """The programs of the user's own model or step: `module:function`.

    The function is called without arguments, under the strategy of the devices. It returns a pair.
    The first is a compiled `keras.Model`, whose `train_step` and `test_step` are the programs, or a
    step, a function of a replica's batch. The second is the batch of a step over all replicas, as
    `fit` takes it: nested arrays or `tf.TensorSpec`, whose first axis is that of the examples.

    Raises:
        ValueError: there is no such module or function, it returns something else, or the replicas
            cannot share the examples.
    """
    import keras
    import tensorflow as tf

    module, _, function = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {one_line(error)}; give MODULE:FUNCTION") from error
    with strategy.scope():
        made = build()
    if not isinstance(made, tuple) or len(made) != 2 or not callable(made[0]):
        raise ValueError(f"{name}: {_RETURNS}")
    made, batch = made
    sizes = {tuple(getattr(x, "shape", ()))[:1] for x in tf.nest.flatten(batch)}
    is_compiled = not isinstance(made, keras.Model) or made.compiled
    if len(sizes) != 1 or sizes & {(), (None,)} or not is_compiled:
        raise ValueError(f"{name}: {_RETURNS}")
    [(examples,)], replicas = sizes, strategy.num_replicas_in_sync
    if examples % replicas:
        raise ValueError(f"{name}: {examples} examples do not divide over {replicas} replicas")
    share = tf.nest.map_structure(
        lambda x: tf.TensorSpec((examples // replicas, *x.shape[1:]), tf.as_dtype(x.dtype)), batch
    )
    if not isinstance(made, keras.Model):
        return Programs([StepProgram("train", made, share)], [], {"examples": examples})
    zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), share)
    made._maybe_symbolic_build(data_batch=zeros)  # its metrics are variables, too
    steps = [
        StepProgram("train", made.train_step, share),
        StepProgram("validate", made.test_step, share),
    ]
    variables = [*made.variables, *made.optimizer.variables, *made.metrics_variables]
    return Programs(steps, list({id(v): v for v in variables}.values()), {"examples": examples})
