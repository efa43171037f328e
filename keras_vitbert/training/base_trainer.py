"""What pre-training and fine-tuning both need from Keras' `fit`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_vitbert.model.pretraining_network import BackboneNetwork
from keras_vitbert.model.tensors import Tensor, Tensors, ops
from keras_vitbert.training import cpu_layers
from keras_vitbert.training.anomaly_guard import (
    STEP_ROW,
    AnomalyGuard,
    BadStep,
    bad_steps,
    step_row,
)
from keras_vitbert.training.backends import backend
from keras_vitbert.training.example_dropout import ExampleDropout
from keras_vitbert.training.step_context import recompute
from pipelines.status import doing, timed
from tpu.devices import device_type

if TYPE_CHECKING:
    from keras_vitbert.training.image_layers import ImageLayers

# Of a metric: this replica's sum of weighted values, and its sum of weights.
Sums = dict[str, tuple[Tensor, Tensor]]

_TRACING = {False: "compiling the first step", True: "compiling the step that compares gradients"}


class BaseTrainer(backend.Fitting):
    """A `keras.Model` whose train step sums gradients over the replicas itself.

    A subclass fills `means`, a dict of `keras.metrics.Mean`, and has a `train_step` that calls
    `update`.

    Args:
        network: the model to train.
        clip_norm: the global norm that the summed gradient is clipped to.
        seed: in [0, 2**32), of the random layers.
        image_layers: what is applied to images, if anything.
        remat: whether the blocks' inner values are computed again in the backward pass, see
            `keras_vitbert.training.step_context`.
        accumulation: how many micro-batches a replica's batch is divided into; their gradients are
            summed before the update.
    """

    # Those of `log_values` that are curves in TensorBoard; the others are in metrics.csv only, as
    # inspection shows them in another way.
    curves: tuple[str, ...] = ()

    def __init__(
        self,
        network: BackboneNetwork,
        clip_norm: float = 1.0,
        seed: int = 0,
        image_layers: "ImageLayers | None" = None,
        remat: bool = False,
        accumulation: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        devices = device_type(self.distribute_strategy)
        # To save memory, the second modality's pass begins when the gradients of the first are
        # ready, and weights are updated one after another: on GPUs, which run one operation at a
        # time anyway. A CPU's cores share the operations, which is faster.
        self.in_turn = devices == "gpu"
        # Layers take the forms of `cpu_layers`, unless XLA compiles the step.
        self.on_cpu = devices == "host" and keras.backend.backend() == "tensorflow"
        self.anomaly_guard = AnomalyGuard(name="step_check")
        self.bad_steps: tuple[BadStep, ...] = ()  # of the last execution
        self.dropout = ExampleDropout(network, seed)
        backend.prepare(network)
        if remat:
            recompute(network.backbone.blocks)
        self.image_layers = image_layers
        self.means: dict[str, keras.metrics.Mean] = {}
        # Completed steps, counted on the host: reading the device's counter would stall it.
        self.step = 0
        # Whether the next step is a probing step; whether the last execution began with one, and
        # whether it was the first of its kind, and made its graph.
        self.probe_requested = self.probed = self.traced = False
        self._kinds_traced = set()
        self.built = True

    @property
    def state_variables(self) -> dict[str, list[keras.Variable]]:
        """What a checkpoint holds besides the optimiser."""
        return {
            "network": self.network.variables,
            "metrics": [variable for mean in self.metrics for variable in mean.variables],
            "step_check": self.anomaly_guard.variables,
        }

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        """What steps read but do not change, besides the network."""
        return []

    def log_values(self) -> dict[str, float]:
        """Further values for the log at the end of an epoch."""
        return {}

    def change_rate(self, rate: keras.optimizers.schedules.LearningRateSchedule) -> None:
        """Changes the learning rate; the step is traced again."""
        self.optimizer.learning_rate = rate
        self.train_function = None
        self._kinds_traced.clear()

    def as_on_gpu(self) -> None:
        """Makes it trace a GPU's step without a GPU; a TPU's compiler orders operations itself."""
        self.in_turn = True
        if self.on_cpu:
            self.on_cpu, self.dropout.generator = False, "philox16"

    def augment(self, batch: Tensors) -> Tensors:
        """A batch after the image layers."""
        if self.image_layers is None:
            return batch
        with keras.name_scope("augmentation"):
            return {**batch, "images": self.image_layers(batch["images"], batch["image_numbers"])}

    def sum_micro_batches(
        self, function: Callable[[Tensors, Tensor], tuple], batch: Tensors
    ) -> tuple[list[list[Tensor]], list[Tensor], Sums]:
        """Gradients, losses and metrics of this replica's share of a batch.

        Args:
            function: takes (a micro-batch; its number, int64) and returns (lists of gradients with
                respect to the network's trainable variables, or None; list of losses; by the name
                of a metric, values and weights of examples). It must not sum over the replicas or
                change variables.

        Returns:
            (Lists of gradients or None, losses, metrics as `record` takes them), of the whole
            share.
        """

        def with_sums(batch: Tensors, number: Tensor) -> tuple:
            gradients, losses, measured = function(batch, number)
            sums = {
                name: (_total(values * weights), _total(weights))
                for name, (values, weights) in measured.items()
            }
            return gradients, (losses, sums)

        variables = self.network.trainable_variables
        gradients, (losses, sums) = backend.sum_micro_batches(
            with_sums, batch, self.accumulation, variables
        )
        return gradients, losses, sums

    def forward(
        self,
        network: Callable[..., Tensors],
        inputs: Tensors,
        step: Tensor,
        place: int = 0,
        part: Tensor = 0,
    ) -> Tensors:
        """Calls a network in training mode, inside a replica.

        `place` distinguishes the forward passes of a step, `part` is the number of the micro-batch.
        """
        texts = inputs["text_starts"].shape[0] if "text_starts" in inputs else None
        keyed = self.dropout.keyed(step, place, part, self.accumulation, texts)
        with keyed, cpu_layers.for_cpu(self.on_cpu and not self.jit_compile):
            return network(inputs, training=True)

    def update(
        self, gradients: list[Tensor], loss: Tensor, measured: Sums
    ) -> tuple[Tensor, Tensors]:
        """Clips gradients and applies them, unless the step is bad; inside a replica.

        Gradients and loss are summed over all replicas, metrics are this replica's. Returns whether
        the step is good, and further logs.
        """
        with keras.name_scope("clip"):
            l2_losses = ops.stack([backend.l2_loss(gradient) for gradient in gradients])
            norm = ops.sqrt(2 * ops.sum(l2_losses))
            moved = self.optimizer.largest_update(ops.minimum(norm, self.clip_norm))
            good, largest = self.anomaly_guard.judge(loss, norm, *moved)
            scale = ops.where(good, clip_scale(norm, self.clip_norm), 0.0)
            # Unlike a product, this is 0 for a gradient that is not finite.
            gradients = [backend.multiply_no_nan(gradient, scale) for gradient in gradients]
        with keras.name_scope("update"):
            variables = self.network.trainable_variables
            self.optimizer.apply(gradients, variables, good, in_turn=self.in_turn)
        self.record(measured, good)
        return good, {
            "gradient_norm": norm,
            STEP_ROW: step_row(good, loss, largest, l2_losses),
        }

    def record(self, measured: Sums, good: Tensor = True) -> None:
        """Adds this replica's sums to the metrics; if `good` is False, these keep their values."""
        for name, sums in backend.metric_sums(measured).items():
            total, weight = (ops.where(good, value, 0.0) for value in sums)
            self.means[name].total.assign_add(total)
            self.means[name].count.assign_add(weight)

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is None or force:
            [run_steps] = self.train_steps(self.train_step)
            self.train_function = self._counted(run_steps)

    def _counted(self, run_steps: Callable[[Any], dict]) -> Callable[[Any], dict]:
        def train_function(iterator: Any) -> dict:
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
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.means.values())


def clip_scale(norm: Tensor, limit: float) -> Tensor:
    """The factor that scales a gradient of a norm down to a limit (Pascanu et al. 2013).

    It is 1 for a norm below the limit, and for a gradient of 0.
    """
    return limit * ops.minimum(1 / norm, 1 / limit)


def _total(values: Tensor) -> Tensor:
    """The sum over examples of the means of their values, which is how Keras counts weights."""
    axes = tuple(range(1, len(values.shape)))
    return ops.sum(ops.mean(values, axes) if axes else values)
