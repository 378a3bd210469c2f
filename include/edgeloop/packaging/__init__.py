"""From a model version to an image that was proven to answer as the model does."""
