"""What a training step cannot say in `keras.ops`, for each backend of Keras.

The method (losses, merges, masks, optimisers, checks) is written once. An engine is what remains:
gradients, sums over the replicas, parts of a batch one behind the other, updates of variables,
random numbers and the loop around the step. `tensorflow` and `jax` have the same functions, in the
same order; `chosen` is that of the backend.
"""
