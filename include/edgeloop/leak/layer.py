"""How exactly a number of an output says what it says, and the key by which it and the data's fields are compared.

A report that prints 6.87 means every field that rounds to it; 32 bits mean the field as 32 bits. Each such exactness is
a *layer*; within one, equal keys are equal numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MOST_DECIMALS = 12
FLOAT32, FLOAT16, TIME, WORD = 100, 101, 102, 103
"""0 to ``MOST_DECIMALS`` are decimals of a printed number."""
DIGITS = 2
LEAST_WHOLE = 1000
SMALLEST, LARGEST = 1e-30, 1e30
HALF_LARGEST = 65504.0
SAME = 2.0**-22
SECONDS = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e3), (1e14, 1e16, 1e6), (1e17, 1e19, 1e9))
"""Between which numbers a time since 1970 lies in seconds, milliseconds, microseconds, nanoseconds (1973 to 2286)."""


def suits(layer: int, kind: str) -> bool:
    """Whether fields of a kind can be said in a layer."""
    if layer == WORD:
        return kind == "text"
    if layer == TIME:
        return kind == "time"
    return kind == "number"


def keys(layer: int, values: NDArray[Any]) -> NDArray[Any]:
    """The keys of float64 values in a layer, NaN where there is none."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        if layer == FLOAT32:
            return np.asarray(values.astype(np.float32).astype(np.float64))
        if layer == FLOAT16:
            halves = values.astype(np.float16).astype(np.float64)
            return np.where(np.abs(values) <= HALF_LARGEST, halves, np.nan)
        if layer == WORD:
            return values
        if layer == TIME:
            return np.asarray(np.rint(values))
        return np.asarray(np.rint(values * 10.0**layer))


def distinctive(values: NDArray[Any]) -> NDArray[Any]:
    """Which numbers carry something: not 0, not whole below 1,000, with more than two digits."""
    import numpy as np

    with np.errstate(all="ignore"):
        size = np.abs(values)
        fit = np.isfinite(values) & (size > SMALLEST) & (size < LARGEST)
        size = np.where(fit, size, 1.0)
        unit = 10.0 ** (np.floor(np.log10(size)) - (DIGITS - 1))
        short = np.abs(np.rint(size / unit) * unit - size) <= SAME * size
        whole = (size < LEAST_WHOLE) & (size == np.rint(size))
    return np.asarray(fit & ~short & ~whole)


def rounded(values: NDArray[Any], fit: NDArray[Any], digits: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """The layers in which numbers say so many digits, each with which of the fitting ones."""
    import numpy as np

    size = np.where(fit, np.abs(values), 1.0)
    decimals = np.clip(digits - 1 - np.floor(np.log10(size)), 0, MOST_DECIMALS).astype(np.int64)
    for code in np.unique(decimals[fit]).tolist():
        yield code, fit & (decimals == code)


def seconds(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers that may be a time since 1970, in seconds; NaN for the others."""
    import numpy as np

    found = np.full(len(values), np.nan)
    for low, high, unit in SECONDS:
        fit = (values >= low) & (values < high)
        found[fit] = values[fit] / unit
    return found
