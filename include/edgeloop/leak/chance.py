"""How likely chance puts fields of one row together: the arithmetic of false alarms.

Two outputs hold the same number for two reasons: one was copied from the other, or both numbers are common. A gradient
boosted model is made of thresholds, and half of those of data with two decimals are values of the data; some lie beside
each other. So "three or more fields of one row together" is a leak only if chance does not explain it.

A *mark* is a number (or time, or text) of an output that is also in the data, and is distinctive: no whole number below
1,000, nothing of two digits or fewer. Marks are *together* within ``WINDOW`` numbers of each other. Let

- N be the rows of the data, M the marks of one stream (a text, a tensor, an attribute),
- q(v) the chance that a mark is v: the share of the data's fields that are v, summed over columns, plus how often v is
  in the stream in further, different surroundings, as a share of M (a threshold that a forest likes is common there; a
  row that is repeated a thousand times has the same surroundings each time and gains nothing),
- s the fields of one row that were found within d numbers.

If the marks had nothing to do with each other, a place in the stream would show s fields of some row within d numbers
with at most the frequency

    E = N * M * C(d - 1, s - 1) * q(v1) * ... * q(vs)

(any row, any first mark, any s - 1 of the d - 1 numbers after it). It is an expectation, so by Markov's inequality the
chance of one hit with E <= x in a stream is at most x for each size s.

- One hit with E <= ``ALONE`` is a leak.
- ``MANY`` hits at different places, of different rows, each with E <= 1, are one too: chance gives about one for each
  size; that it gives sixteen is less likely than 1e-8 even at three. This is how a model of nearest neighbours or of
  support vectors is found, whose rows are coarse and many.

For 39,000 rows of the wind farm, with two decimals, N is 15 bits and a field is worth 9 to 13: three of them side by
side in a short report have E below 1e-5, a time, a site and a power 1e-4; in a forest of 6,000 thresholds five or six
fields are needed. A hundred honest outputs raise at most 100 * streams * sizes * ``ALONE`` alarms. That is loose for
models and metrics: in those of tests/edgeloop/leak/test_honest.py (a hundred, of sixteen kinds) no three fields had E
below 1. It is not loose for reports with tables of statistics, whose numbers are all fields of some row. It does not
hold for tables of extremes: an outlier is extreme in several columns at once, so that three of its fields stand
together (seen in one of a hundred tables of minima and maxima of the farm). Such a report is refused.

What is not found: rows that a script disguises (scaled by what is not in the model, sums, reversed digits, ciphers, the
low bits of weights), fields of two digits or fewer, fields further apart than ``WINDOW`` numbers, values so common that
chance explains them, and fewer than three fields unless they are of an identifier column.
"""

from __future__ import annotations

import math

WINDOW = 24
FIELDS = 3
ALONE = 2e-3
MANY = 16
LOG_ALONE = math.log2(ALONE)


def log_expected(rows: int, marks: int, span: int, weights: list[float]) -> float:
    """log2 of E: ``weights`` are log2 of q for the fields found, ``span`` is d, in numbers."""
    ways = math.comb(max(span, len(weights)) - 1, len(weights) - 1)
    return math.log2(max(rows, 1)) + math.log2(max(marks, 1)) + math.log2(ways) + sum(weights)
