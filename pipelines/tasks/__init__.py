"""Labelled images and texts of downstream tasks, for training and for evaluation."""
