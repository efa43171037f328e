"""What a training step cannot express in `keras.ops`, for each backend of Keras.

The method (losses, merges, masks, optimisers, checks) is written once. An engine is what remains:
gradients, sums over the replicas, parts of a batch one after another, updates of variables
(`tensorflow` and `jax`, with the same functions in the same order), the loop around the step
(`_fitting`) and random numbers (`_keys`). `chosen` has those of the current backend.
"""
