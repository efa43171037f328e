"""Looks inside a model in training: activations, masks and gradients, as numbers and pictures."""
