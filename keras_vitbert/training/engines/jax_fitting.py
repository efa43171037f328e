"""The loop around the steps on JAX, where a step is a function of the values of variables."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_vitbert.training import pass_scope
from keras_vitbert.training.engines.jax import State
from keras_vitbert.training.step_check import STEP_ROW
from tpu.jax_strategy import Batches, current_strategy


class Fitting(keras.Model):
    """`fit` and `evaluate`, with the state in the variables whenever a callback runs.

    Keras' own take the state out of the variables while they run: a callback must neither read nor
    assign a weight (keras#19054).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.distribute_strategy = current_strategy()

    def train_steps(self, first_step=None):
        """A function of an iterator that runs `steps_per_execution` training steps.

        Args:
            first_step: in place of `train_step` for the first of them; call this without it before.
        """
        if first_step is None:
            made = self.program(self.train_step)  # one for all executions
            self._ordinary = lambda: made  # Keras would take the variables in a tuple for its own
        others, state, frozen = self._ordinary()
        first = others if first_step is None else self.program(first_step)[0]

        def execute(batches):
            batches = itertools.islice(batches, self.steps_per_execution)
            programs = itertools.chain([first], itertools.repeat(others))
            logs = self._run(programs, state, frozen, batches)
            return {**logs[-1], STEP_ROW: np.concatenate([each[STEP_ROW] for each in logs])}

        return execute

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            run, state, frozen = self.program(self.test_step)
            self.test_function = lambda batch: self._run([run], state, frozen, [batch])[0]

    def program(self, step):
        """A step as a program, from the values of variables before it to the values after.

        Args:
            step: callable of a batch that reads and assigns variables; returns logs.

        Returns:
            (compiled function that takes (list of arrays, the state; list of arrays that the step
            only reads; a batch) and returns (list of arrays, logs); list of Keras variables, the
            state; list of Keras variables that the step only reads).
        """
        strategy = self.distribute_strategy
        state = [*self.variables, *self.metrics_variables, *self.optimizer.variables]
        state = list({id(v): v for v in state}.values())
        frozen = list(self.frozen_variables)

        def one(values, frozen_values, batch):
            around = State(zip(frozen, frozen_values, strict=True))
            scope = State(zip(state, values, strict=True), around)
            with scope, pass_scope.using(state=scope, strategy=strategy):
                logs = step(batch)
            return [scope.get_current_value(v) for v in state], logs

        shardings = [strategy.sharding_of(variable.shape) for variable in state]
        run = jax.jit(
            one if strategy.divides_weights else strategy.on_each(one),
            donate_argnums=0,
            out_shardings=(shardings, strategy.everywhere),
        )
        return run, state, frozen

    def _run(self, programs, state, frozen, batches):
        """Runs programs on the variables, one for each batch: list of their logs.

        It starts one after another, at most one ahead of the devices, so that their memory never
        holds all batches of an execution.
        """
        placed = self.distribute_strategy.placed
        values, read, found = _unaliased(placed(state)), placed(frozen), []
        for batch, run in zip(batches, programs, strict=False):
            values, logs = run(values, read, batch)
            jax.block_until_ready(found[-1:])
            found.append(logs)
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        return found

    def fit(
        self,
        x,
        steps_per_epoch,
        initial_epoch=0,
        epochs=1,
        callbacks=None,
        validation_data=None,
        validation_freq=1,
        validation_steps=None,
        shuffle=False,
        verbose=0,
    ):
        """Trains, see `keras.Model.fit`.

        Args:
            x: `tpu.jax_strategy.Batches`, or a `tf.data.Dataset` of dicts.
            steps_per_epoch: int.
            initial_epoch, epochs, callbacks, validation_data, validation_freq, validation_steps: as
                in `keras.Model.fit`.
            shuffle, verbose: without effect; batches come as they are, and callbacks report steps.
        """
        callbacks = keras.callbacks.CallbackList(callbacks, model=self, epochs=epochs)
        self.make_train_function()
        run: Any = self.train_function
        self.stop_training = False
        callbacks.on_train_begin()
        logs, batches = {}, iter(self._placed(x))
        for epoch in range(initial_epoch, epochs):
            self.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            for step in range(0, steps_per_epoch, self.steps_per_execution):
                callbacks.on_train_batch_begin(step)
                logs = run(batches)
                callbacks.on_train_batch_end(step + self.steps_per_execution - 1, logs)
                if self.stop_training:
                    break
            logs = {**logs, **self.get_metrics_result()}
            if validation_data is not None and _is_due(epoch + 1, validation_freq):
                found = self.evaluate(validation_data, validation_steps, callbacks)
                logs |= {f"val_{name}": value for name, value in found.items()}
            callbacks.on_epoch_end(epoch, logs)
            if self.stop_training:
                break
        callbacks.on_train_end(logs)

    def evaluate(self, x, steps=None, callbacks=None, verbose=0, return_dict=True):
        """The metrics of some batches, see `keras.Model.evaluate`.

        Args:
            x: `tpu.jax_strategy.Batches`, or a `tf.data.Dataset` of dicts.
            steps: int, or None for all.
            callbacks: list, or `keras.callbacks.CallbackList`.
            verbose, return_dict: without effect.

        Returns:
            dict of name to value.
        """
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(callbacks, model=self)
        self.make_test_function()
        self.reset_metrics()
        callbacks.on_test_begin()
        logs = {}
        for number, batch in enumerate(itertools.islice(self._placed(x), steps)):
            callbacks.on_test_batch_begin(number)
            logs = self.test_function(batch)
            callbacks.on_test_batch_end(number, logs)
        logs = self.get_metrics_result()
        callbacks.on_test_end(logs)
        return logs

    def _placed(self, batches):
        if isinstance(batches, Batches):
            return batches
        return Batches(self.distribute_strategy, batches)


def _is_due(epoch, frequency):
    return epoch % frequency == 0 if isinstance(frequency, int) else epoch in frequency


def _unaliased(values):
    """The same arrays, but none of them twice: a buffer can be donated only once."""
    seen = set()
    return [jnp.copy(x) if id(x) in seen or seen.add(id(x)) else x for x in values]
