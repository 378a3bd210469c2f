"""Azure Container Registry as the builder: its tasks make, prove and push an image where no worker has an engine."""
