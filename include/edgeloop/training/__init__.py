"""One training on a VM that only SSH reaches: stage, submit once, attach, follow, cancel, collect."""
