"""Shows what happens in a model during training: activations, masks and gradients."""
