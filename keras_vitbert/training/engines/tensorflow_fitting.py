"""The loop around the steps on TensorFlow, where Keras' own runs them."""

import contextlib

import keras
import tensorflow as tf

from keras_vitbert.training.step_check import STEP_ROW


class Fitting(keras.Model):
    """How `keras.Model.fit` runs the steps; see `BaseTrainer`."""

    def train_steps(self, first_step=None):
        """A function of an iterator that runs `steps_per_execution` training steps.

        Args:
            first_step: in place of `train_step` for the first of them.
        """
        first_step = first_step or self.train_step
        return self._make_steps(first_step, self.train_step, self.steps_per_execution)

    def make_test_function(self, force=False):
        if self.test_function is not None and not force:
            return
        run_step = self._make_function(self.test_step)

        def test_function(iterator):
            logs = run_step(iterator)
            # The batches may run out within an execution.
            with contextlib.suppress(tf.errors.OutOfRangeError):
                for _ in range(1, self.steps_per_execution):
                    logs = run_step(iterator)
            return logs

        self.test_function = test_function

    # --- what `fit` needs under `MultiWorkerMirroredStrategy` -----------------------------------

    # Keras' `fit` fails there in two places (keras#20585): before the first step it averages the
    # first batch over the replicas, including strings and labels, and after each step it averages
    # scalars over an axis that they do not have. A test in
    # `tests/keras_vitbert/runs/test_machine.py` fails once the two methods below can go.

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Does nothing: network, optimiser and metrics are built before `fit`."""

    def _make_function(self, step_function):
        return self._make_steps(step_function, step_function, 1)

    def _make_steps(self, first_step, step, count):
        """A function of an iterator that runs `count` steps and returns the last one's logs.

        The logs are those of this process's first replica, and the rows of all steps, see
        `step_check.step_row`. The values at the end of an epoch come from `get_metrics_result`,
        which covers all replicas.
        """

        def distributed(step):
            def run(batch):
                logs = self.distribute_strategy.run(step, args=(batch,))
                return tf.nest.map_structure(self._own_replica, logs)

            if self.run_eagerly:
                return run
            # No Python control flow depends on tensors, and AutoGraph doubles the tracing time.
            return tf.function(
                run, autograph=False, reduce_retracing=True, jit_compile=self.jit_compile
            )

        first_step, step = distributed(first_step), distributed(step)

        @tf.autograph.experimental.do_not_convert
        def run_steps(iterator):
            logs = first_step(next(iterator))
            if count > 1:

                def next_step(done, _, rows):
                    logs = step(next(iterator))
                    rows = tf.tensor_scatter_nd_update(rows, [[done]], [logs[STEP_ROW]])
                    return done + 1, logs, rows

                rows = tf.tile(logs[STEP_ROW][tf.newaxis], (count, 1))
                _, logs, rows = tf.while_loop(
                    lambda done, *_: done < count,
                    next_step,
                    (1, logs, rows),
                    parallel_iterations=1,
                )
                logs[STEP_ROW] = rows
            return logs

        return run_steps if self.run_eagerly else tf.function(run_steps, reduce_retracing=True)

    def _own_replica(self, values):
        return self.distribute_strategy.experimental_local_results(values)[0]

    def _get_metrics_result_or_logs(self, logs):
        """An epoch's logs: means over all replicas.

        Without this, Keras would keep the step's own logs, which are made on each replica, because
        they also contain the gradient's norm.
        """
        return {**logs, **self.get_metrics_result()}
