"""Pre-training: settings, data, teachers, initial weights, the run."""
