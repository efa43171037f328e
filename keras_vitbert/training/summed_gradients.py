"""What our optimisers share: gradients are summed already, and a bad step changes nothing.

Keras' optimisers clip each replica's gradient before summing (keras#19308), which changes the
update. Our steps sum and clip themselves, so their optimiser must not sum again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_vitbert.training.engines import engine

# The class that the mixins are combined with, for type checkers.
_Optimizer = keras.optimizers.Optimizer if TYPE_CHECKING else object


class SummedGradients(_Optimizer):
    """Applies gradients that are already equal on all replicas, or leaves everything as it is.

    Weight decay applies to the variables of `decays`. Variables may have their own learning rates,
    see `scale_rates`.
    """

    _rate_scales: list[float] | None = None

    def scale_rates(self, scales: Sequence[float]):
        """Scales the learning rate, and with it weight decay, of each variable."""
        self._rate_scales = list(scales)

    def apply(self, grads, trainable_variables=None, good=True, in_turn=False):
        """Updates variables, unless the step is bad; counts the step.

        The averages of `use_ema` follow the weights in every step.

        Args:
            grads: tensors, which are finite even in a bad step, and None.
            trainable_variables: those of `build` by default.
            good: scalar bool tensor; where it is False, weights and moments keep their values.
            in_turn: whether variables are updated one after another. Otherwise a GPU would begin
                all updates before it ends one, and keep several tensors of the size of all weights.
        """
        variables = trainable_variables or self._trainable_variables
        if not self.built:
            self.build(variables)
        grads, variables = self._filter_empty_gradients(grads, variables)
        good = ops.convert_to_tensor(good)
        numbers = [ops.where(good, self.learning_rate, 0.0), ops.stack(self.factors(good))]
        engine.update_each(self._update, variables, grads, numbers, in_turn)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
        self._iterations.assign_add(1)

    def factors(self, good: Any) -> list:
        """The factors of an update that `update_step` needs; unless `good`, nothing changes."""
        raise NotImplementedError

    def largest_update(self, gradient_norm: Any) -> tuple[Any, float]:
        """The most by which the next gradient, of a norm, may move a weight, apart from decay.

        Returns:
            (scalar float32 tensor; the fraction of the last step's that is added to it).
        """
        raise NotImplementedError

    def _rate_of(self, variable, rate):
        if self._rate_scales is None:
            return rate
        return rate * self._rate_scales[self._get_variable_index(variable)]

    def _largest_rate(self):
        rate: Any = self.learning_rate
        return rate * max(self._rate_scales or [1.0])

    def finalize_variable_values(self, var_list):
        """Does nothing: a `fit` may train only some steps; averages are used after the last one."""

    def _update(self, variable, gradient, numbers):
        rate, factors = numbers
        self._decay(variable, rate)
        self.update_step(gradient, variable, factors)

    def _decay(self, variable, rate):
        """Shrinks a variable of `decays`; Keras would compute the rate again for each."""
        index = self._get_variable_index(variable)
        if self.weight_decay and decays(self._trainable_variables[index]):
            part = self._rate_of(variable, self.weight_decay)
            variable.assign_sub(variable * ops.cast(part * rate, variable.dtype))


class KerasUpdate(SummedGradients):
    """The update that Keras computes; in a bad step, its assignments change nothing."""

    _good: Any = None

    def factors(self, good):
        """The learning rate, and whether the step is good."""
        return [ops.cast(x, "float32") for x in (self.learning_rate, good)]

    def update_step(self, gradient, variable, learning_rate):
        """One step of Keras' optimiser of that name; `learning_rate` are the `factors`."""
        rate, good = ops.unstack(learning_rate)
        self._good = good > 0
        super().update_step(gradient, variable, self._rate_of(variable, rate))
        self._good = None

    def assign(self, variable, value):
        super().assign(variable, self._if_good(value, ops.convert_to_tensor(variable)))

    def assign_add(self, variable, value):
        super().assign_add(variable, self._if_good(value, 0.0))

    def assign_sub(self, variable, value):
        super().assign_sub(variable, self._if_good(value, 0.0))

    def _if_good(self, value, kept):
        return ops.where(self._good, ops.convert_to_tensor(value), kept)


def decays(variable: Any) -> bool:
    """Whether weight decay applies to a variable.

    It applies to every `kernel` and to word and segment `embeddings`, but not to biases, norms'
    `gamma` and `beta`, position embeddings and the class token.
    """
    return variable.path.split("/")[-1] in ("kernel", "embeddings")
