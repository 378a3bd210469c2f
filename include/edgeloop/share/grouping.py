"""Which batch a file belongs to."""

from __future__ import annotations

import re

GROUP_LENGTH = 100


def group_of(path: str, expression: str) -> str:
    """Which batch a file belongs to, in characters that a partition key and a blob's name can hold; "" for none."""
    match = re.search(expression, path)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", (match.group(1) or "") if match else "")[:GROUP_LENGTH]
