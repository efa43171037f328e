"""Figures 3 to 6 of the paper, of finished runs."""
