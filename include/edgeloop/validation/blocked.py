"""What on-call staff read when a batch is stopped."""

from __future__ import annotations

from edgeloop.errors import ValidationBlockedError

SHOWN = 10


def blocked(
    *,
    batch: str,
    files: int,
    breaches: tuple[str, ...],
    set_aside: tuple[str, ...],
    quarantined: int,
    quarantine: str,
    docs: str,
    rerun: str,
) -> ValidationBlockedError:
    """The error of a blocked batch: counts, the first ten reasons, where the rows are, and what to type.

    Args:
        batch: Its partition key.
        files: How many files it has.
        breaches: What was broken, a sentence each.
        set_aside: Files that could not be validated or lost every row, a sentence each.
        quarantined: Rows set aside.
        quarantine: Where they are; "" for none.
        docs: Where its Data Docs are; "" for none.
        rerun: The command that runs this batch again.
    """
    why = f"{len(breaches)} expectations broken" if breaches else "nothing left to certify"
    reasons = [f"  {number}. {one}" for number, one in enumerate([*breaches, *set_aside][:SHOWN], start=1)]
    more = len(breaches) + len(set_aside) - SHOWN
    counts = f"{files} files, {len(set_aside)} of them set aside, {quarantined} rows quarantined"
    lines = [
        f"Batch {batch} is blocked: {why}; {counts}.",
        *reasons,
        *([f"  and {more} more"] if more > 0 else []),
    ]
    left = "the files on the share; no certificate was written, so nothing trains on this batch"
    if quarantine:
        left += f"; the rows with their reasons in {quarantine}"
    if docs:
        left += f"; what every expectation found in {docs}"
    return ValidationBlockedError(
        "\n".join(lines),
        left=left,
        next="A corrected file on the share is claimed as a new batch by itself. If the suite is wrong, correct "
        'expectations.json and trigger this DAG with the same partition key and the configuration {"force": "<why>"}.'
        + (f" To run this batch again as it is: {rerun}" if rerun else ""),
    )
