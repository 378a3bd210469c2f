"""From a registered model to a proven, pushed image."""
