"""Trains nothing: no test of this pipeline gets that far."""
