"""The training steps: losses, distillation, optimisers. Merging and masks are in `merging`."""
