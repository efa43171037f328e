"""From an experiment to its run: `open_run`, the flags of commands, pre-training, fine-tuning."""
