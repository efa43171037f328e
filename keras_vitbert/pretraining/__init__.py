"""What a pre-training is made of: settings, data, teachers, first weights, the run."""
