"""Azure Machine Learning around a training: the VM as compute target, the dataset as data asset, the job's record."""
