"""Accuracy of what devices really predicted, and whether to retrain."""
