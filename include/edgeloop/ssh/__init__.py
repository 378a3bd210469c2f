"""The only modules that talk SSH: pinned host keys, keys instead of passwords, named time-outs."""
