"""A training VM on Azure Stack Hub, made over Azure Resource Manager and removed again."""
