"""The training steps: losses, merging of gradients, masks, optimisers."""
