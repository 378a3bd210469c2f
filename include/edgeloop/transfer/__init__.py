"""Files to blob storage: conditional, checked on the way, read back after."""
