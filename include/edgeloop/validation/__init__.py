"""From a Batch to a Certificate: the expectation suite, the quarantine, the reasons."""
