"""What pre-training and fine-tuning share: loop, run folder, checkpoints, worker processes."""
