"""The only modules that talk to Docker engines and container registries."""
