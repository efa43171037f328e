"""What pre-training and fine-tuning both need from Keras' `fit`."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.training import cpu_layers
from keras_vitbert.training.anomaly_guard import STEP_ROW, AnomalyGuard, bad_steps, step_row
from keras_vitbert.training.backends import backend
from keras_vitbert.training.example_dropout import ExampleDropout
from keras_vitbert.training.step_context import recompute
from pipelines.status import doing, timed

_TRACING = {False: "compiling the first step", True: "compiling the step that compares gradients"}


class BaseTrainer(backend.Fitting):
    """A `keras.Model` whose train step sums gradients over the replicas itself.

    A subclass fills `means`, a dict of `keras.metrics.Mean`, and has a `train_step` that calls
    `update`.

    Args:
        network: the Keras model to train.
        clip_norm: float, the global norm that the summed gradient is clipped to.
        seed: int in [0, 2**32), of the random layers.
        accumulation: int, how many parts a replica's batch is divided into; their gradients are
            summed before the update.
        remat: bool, whether the blocks' inner values are computed again in the backward pass, see
            `keras_vitbert.training.step_context`.
        image_layers: `keras_vitbert.training.image_layers.ImageLayers`, or None.
        in_turn: bool, whether to save memory by not computing things at the same time: the second
            modality's pass begins when the gradients of the first are ready, and weights are
            updated one after another. None: on GPUs, which run one operation at a time anyway. A
            CPU's cores share the operations, which is faster.

    Attributes:
        curves: tuple of str, those of `log_values` that are curves in TensorBoard; the others are
            in metrics.csv only, as inspection shows them in another way.
        bad_steps: tuple of `BadStep`, those of the last execution.
        step: int, completed steps, counted on the host: reading the device's counter in each step
            would stall it.
        probe_requested: bool, whether the next step is a probing step.
        on_cpu: bool, whether layers take the forms of `keras_vitbert.training.cpu_layers`, unless
            XLA compiles the step.
        probed: bool, whether the last execution began with a probing step.
        traced: bool, whether the last execution was the first of its kind, and made its graph.
    """

    curves = ()

    def __init__(
        self,
        network,
        clip_norm=1.0,
        seed=0,
        image_layers=None,
        remat=False,
        accumulation=1,
        in_turn=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        devices = backend.devices()
        self.in_turn = devices == "gpu" if in_turn is None else in_turn
        self.on_cpu = devices == "host"
        self.anomaly_guard = AnomalyGuard(name="step_check")
        self.bad_steps = ()
        self.dropout = ExampleDropout(network, seed)
        backend.prepare(network)
        if remat:
            recompute(network.backbone.blocks)
        self.image_layers = image_layers
        self.means = {}
        self.step = 0
        self.probe_requested = self.probed = self.traced = False
        self._kinds_traced = set()
        self.built = True

    @property
    def state_variables(self):
        """What a checkpoint holds besides the optimiser: dict of name to list of variables."""
        return {
            "network": self.network.variables,
            "metrics": [variable for mean in self.metrics for variable in mean.variables],
            "step_check": self.anomaly_guard.variables,
        }

    @property
    def frozen_variables(self):
        """What steps read but do not change, besides the network: list of Keras variables."""
        return []

    def log_values(self):
        """Further values for the log at the end of an epoch: dict of name to float."""
        return {}

    def as_on_gpu(self):
        """Makes it trace a GPU's step without a GPU; a TPU's compiler orders operations itself."""
        self.in_turn = True
        if self.on_cpu:
            self.on_cpu, self.dropout.generator = False, "philox16"

    def augmented(self, batch, numbers):
        """A batch whose images have gone through the image layers, if there are any.

        Args:
            batch: dict, this replica's share.
            numbers: str, the name of the image numbers in the batch.
        """
        if self.image_layers is None:
            return batch
        with keras.name_scope("augmentation"):
            return {**batch, "images": self.image_layers(batch["images"], batch[numbers])}

    def over_micro_batches(self, function, batch):
        """Gradients, losses and metrics of a batch, part by part.

        Args:
            function: takes (dict, a part of the batch; scalar int64 tensor, its number) and returns
                (lists of gradients with respect to the network's trainable variables, or None; list
                of losses; dict of a metric's name to values and weights of examples). It must not
                sum over the replicas or change variables.
            batch: dict, this replica's share.

        Returns:
            (lists of gradients or None, list of losses, metrics as `record` takes them), of the
            whole share.
        """

        def part(batch, number):
            gradients, losses, measured = function(batch, number)
            sums = {
                name: (_total(values * weights), _total(weights))
                for name, (values, weights) in measured.items()
            }
            return gradients, (losses, sums)

        variables = self.network.trainable_variables
        gradients, sums = backend.over_micro_batches(part, batch, self.accumulation, variables)
        return gradients, *sums

    def forward(self, inputs, step, place=0, part=0):
        """Calls the network in training mode, inside a replica.

        Args:
            inputs: dict, the network's inputs.
            step: scalar int tensor, completed steps.
            place: int, distinguishes the forward passes of a step.
            part: scalar int64 tensor or int, which part of the replica's batch it is.
        """
        texts = inputs["text_starts"].shape[0] if "text_starts" in inputs else None
        keyed = self.dropout.keyed(step, place, part, self.accumulation, texts)
        with keyed, cpu_layers.for_cpu(self.on_cpu and not self.jit_compile):
            return self.network(inputs, training=True)

    def update(self, gradients: list, loss: Any, measured: dict) -> tuple[Any, dict]:
        """Clips gradients and applies them, unless the step is bad; inside a replica.

        Args:
            gradients, loss: summed over all replicas.
            measured: this replica's metrics, see `record`; those of a bad step do not count.

        Returns:
            (scalar bool tensor, whether the step is good; further logs).
        """
        with keras.name_scope("clip"):
            l2_losses = ops.stack([backend.l2_loss(gradient) for gradient in gradients])
            norm = ops.sqrt(2 * ops.sum(l2_losses))
            moved = self.optimizer.largest_update(ops.minimum(norm, self.clip_norm))
            good, largest = self.anomaly_guard.judge(loss, norm, *moved)
            scale = ops.where(good, clip_scale(norm, self.clip_norm), 0.0)
            # Unlike a product, this is 0 for a gradient that is not finite.
            gradients = [backend.times(gradient, scale) for gradient in gradients]
        with keras.name_scope("update"):
            variables = self.network.trainable_variables
            self.optimizer.apply(gradients, variables, good, in_turn=self.in_turn)
        self.record(measured, good)
        return good, {
            "gradient_norm": norm,
            STEP_ROW: step_row(good, loss, largest, l2_losses),
        }

    def record(self, measured, good=True):
        """Adds to the metrics.

        Args:
            measured: dict of a metric's name to (this replica's sum of weighted values, its sum of
                weights).
            good: scalar bool tensor; if it is False, the metrics keep their values.
        """
        for name, sums in backend.of_all(measured).items():
            total, weight = (ops.where(good, value, 0.0) for value in sums)
            self.means[name].total.assign_add(total)
            self.means[name].count.assign_add(weight)

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            [run_steps] = self.train_steps(self.train_step)
            self.train_function = self._counted(run_steps)

    def _counted(self, run_steps):
        def train_function(iterator):
            probes = self.probe_requested
            self.traced = probes not in self._kinds_traced
            with doing(_TRACING[probes], "tracing") if self.traced else timed("steps"):
                logs = run_steps(iterator)
                rows = np.asarray(logs.pop(STEP_ROW))  # waits: devices run asynchronously
            self._kinds_traced.add(probes)
            rows = rows.reshape(self.steps_per_execution, -1)
            self.bad_steps = tuple(bad_steps(rows, self.step))
            self.step += self.steps_per_execution
            return logs

        return train_function

    @property
    def metrics(self):
        return list(self.means.values())


def clip_scale(norm: Any, limit: float) -> Any:
    """The factor that scales a gradient of a norm down to a limit (Pascanu et al. 2013).

    It is 1 for a norm below the limit, and for a gradient of 0.
    """
    return limit * ops.minimum(1 / norm, 1 / limit)


def _total(values):
    """The sum over examples of the means of their values, which is how Keras counts weights."""
    axes = tuple(range(1, len(values.shape)))
    return ops.sum(ops.mean(values, axes) if axes else values)
