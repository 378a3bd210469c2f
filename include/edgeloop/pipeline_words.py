"""What to write instead, in words: for what YAML, pydantic and Python say when they cannot take a pipeline's files."""

from __future__ import annotations

from typing import Any

from edgeloop.pipeline_parts import CONTAINER_NAME, NAME

YAML_HINTS = (
    (r"'\t'", "indent with spaces, YAML takes no tabs"),
    ("alphabetic or numeric character", "put a text that begins with * or & in quotes"),
    ("undefined alias", "put a text that begins with * in quotes"),
    ("that cannot start any token", "put the text in quotes"),
    ("unknown escape character", r"write it in single quotes, which leave a \ as it is"),
    ("mapping values are not allowed", "put a text that holds ': ' in quotes, or mind the indentation"),
    ("could not find expected ':'", "each field is 'name: value'"),
    ("expected <block end>", "the fields of a section begin in one column"),
    ("expected ',' or", "a bracket or brace is not closed"),
    ("end of stream", "a quote, bracket or brace is not closed"),
    ("another document", "remove the line '---'"),
)
PATTERNS = {
    NAME: "write a letter, then 1 to 40 letters, digits and _, all lower-case",
    CONTAINER_NAME: "write 3 to 63 lower-case letters, digits and single '-'",
}


def yaml_words(said: str) -> str:
    """What YAML said, and what to write if that is known."""
    hints = [hint for sign, hint in YAML_HINTS if sign in said]
    return f"is no YAML: {said}" + (f"; {hints[0]}" if hints else "")


def field_words(error: Any) -> str:
    """What pydantic's ``error`` says of a field, with what was written there and what to write instead."""
    kind, value, said = error["type"], error.get("input"), error["msg"]
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        return "is no known field; remove it or correct its name"
    if kind == "edgeloop":
        return str(said)
    if value is None:
        return f"is empty; write a value, or remove the line where there is a default ({said})"
    hint = _hint(kind, value, error)
    shown = f"{value!r} will not do: " if isinstance(value, str | int | float | bool) else ""
    return f"{shown}{said}" + (f"; {hint}" if hint else "")


def _hint(kind: str, value: object, error: Any) -> str:
    if kind == "tuple_type":
        return f"write a list: [{value!r}]" if isinstance(value, str) else "write a list, for example [a, b]"
    if kind == "string_type" and isinstance(value, bool):
        return "without quotes YAML takes yes, no, on and off for true and false; put it in quotes"
    if kind == "string_type" and isinstance(value, int | float):
        return f"put it in quotes: '{value}'"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "write the section's fields below it, indented"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(error["ctx"]["pattern"], "")
    return ""
