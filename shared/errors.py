"""The one error family of the core.

Two audiences are kept apart: :class:`InputError` says that what somebody gave us is wrong, and how to put it right;
:class:`InvariantError` says that we are wrong, and is never expected.
"""

from __future__ import annotations


class ArmisticeError(Exception):
    """Anything this project raises on purpose."""


class InputError(ArmisticeError):
    """What was given cannot be used. The text names the object, what was found, and the way out."""


class InvariantError(ArmisticeError):
    """A change of state would break a law of the ledger. It is refused; the state before it stands."""


class IntentError(InputError):
    """A topology intent that nobody may act on."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        """The value of a :class:`shared.seal.Refusal`: a closed set, fit for a metric."""
