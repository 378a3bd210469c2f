"""Model versions and the promotion ledger."""
