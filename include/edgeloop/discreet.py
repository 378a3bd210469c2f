"""Failures without values: pandas, pyarrow and Great Expectations quote the very cell that they stumble over.

Airflow prints an exception with its causes and contexts into the task log. For a pipeline
marked ``on_premises`` only errors that Edgeloop, Airflow or a network library wrote get there with their words; of any
other the kind and the place are told.
"""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgeloop.errors import EdgeloopError, WithheldError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SPEAKING = ("azure", "docker", "edgeloop", "edgeloop_airflow", "paramiko", "requests", "smbprotocol", "urllib3")
"""Packages whose errors are about hosts, names and sizes, never about what is in a file."""
PLACES = 6


def quietly(call: Callable[[], T], *, speaking: tuple[type[Exception], ...] = ()) -> T:
    """Call, and let no value out of a failure: neither in a message, nor in a cause, nor in a warning.

    Args:
        call: What may fail.
        speaking: Further errors that pass with their words.

    Raises:
        WithheldError: In place of an error of a library that may quote values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told without its words
        told = without_values(error, speaking)
    # Outside of the handler: raised within, it would carry the first error along as its context.
    raise told


def without_values(error: Exception, speaking: tuple[type[Exception], ...] = ()) -> Exception:
    """The error itself, less causes that may quote values, or a ``WithheldError`` in its place."""
    if not _speaks(error, speaking):
        return WithheldError(
            f"{_kind(error)} at {outline(error)}. Its message is withheld: it may quote values of a pipeline that is "
            "on_premises.",
            left="everything stored so far",
            next="Open the file that the last lines of the log name, at the site: the place above says what was asked "
            "of it. Correct the file or the pipeline, then clear the task.",
        )
    _prune(error, speaking)
    return error


def _prune(error: BaseException, speaking: tuple[type[Exception], ...]) -> None:
    """Cut the chain of causes before the first one that may quote values; notes go too, whoever added them."""
    error.__dict__.pop("__notes__", None)
    link = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    error.__context__ = None
    if isinstance(link, Exception) and _speaks(link, speaking):
        _prune(link, speaking)
        error.__cause__ = link
    else:
        error.__cause__ = None


def outline(error: BaseException) -> str:
    """Where an error arose: file, line and function of the last frames, which hold no values."""
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    return " > ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames) or "an unknown place"


def _speaks(error: Exception, speaking: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, (EdgeloopError, OSError, *speaking)):
        return True
    return type(error).__module__.partition(".")[0] in SPEAKING


def _kind(error: Exception) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
