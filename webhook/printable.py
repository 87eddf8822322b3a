"""Text of others, made safe to print: the names in a manifest are not validated yet when we read them."""

from __future__ import annotations


def printable(text: str) -> str:
    """On one line: what could move a cursor, change colours or make an API server drop a warning becomes ``?``."""
    return "".join(char if char.isprintable() else "?" for char in text)
