"""From files on a share to a Batch: scan, settle, claim."""
