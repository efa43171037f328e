"""Figures 3 to 6 of the paper, and a counterpart of its figure 2, of finished runs."""
