"""The training steps: losses, gradient merging, masks, optimisers."""
