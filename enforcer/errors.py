"""What the enforcer raises on purpose, beside what the core raises."""

from __future__ import annotations

from shared.errors import ArmisticeError, InputError


class SetupError(InputError):
    """The node or the settings do not let the enforcer work. One sentence: what was found, and the way out."""


class RefusedError(ArmisticeError):
    """A container may not be created or started. The text is what the person reads in the pod's event."""


class ProtocolError(ArmisticeError):
    """The runtime sent bytes that are no NRI. The connection is of no use any more."""


class KernelError(ArmisticeError):
    """A file of the kernel did not take what was written, or cannot be read. The text names the file."""


class ClusterError(ArmisticeError):
    """The API server could not be asked, or said no. Never the reason that a container does not start."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """Of HTTP; 0 where there was no answer."""
