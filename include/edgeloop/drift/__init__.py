"""Accuracy of what devices really predicted, joined with labels by event time, and whether to retrain."""
