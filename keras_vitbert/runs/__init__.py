"""What pre-training and fine-tuning share: the loop, its folder, checkpoints and processes."""
