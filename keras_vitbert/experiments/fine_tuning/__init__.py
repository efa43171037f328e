"""From a pre-trained checkpoint to a downstream task: transfer, training, evaluation, search."""
