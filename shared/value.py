"""Values that are made for every pod: frozen, slotted dataclasses that cost a third to make.

``@dataclass(frozen=True)`` sets each field by a call, because plain assignment is what it forbids; that was a seventh
of a decision about a new pod. Here nothing forbids it at run time. mypy does: it takes a :func:`value` for frozen, and
it checks every module and every test. All else is as with dataclasses: ``replace``, ``field``, equality, hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_T]) -> type[_T]:
    """The class as a dataclass that nobody changes."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
