"""Whether a pod's intent is believed.

Failure direction: what cannot be verified is doubted, and a doubted pod gets no CPUs of its own. A pod without the
annotation asks for nothing, and nothing is doubted.
"""

from __future__ import annotations

from dataclasses import dataclass

from enforcer.runtime import Sandbox
from shared.errors import IntentError
from shared.intent import Intent
from shared.seal import ANNOTATION, KeyRing, open_


@dataclass(frozen=True, slots=True)
class Belief:
    """What is known of a pod's wish. Both are empty where it has none."""

    intent: Intent | None = None
    doubt: str = ""
    """Why the intent it carries is not believed, in words that follow the pod's name."""
    reason: str = ""
    """The same as a closed word, of :class:`shared.seal.Refusal`."""


SILENT = Belief()
"""Of a pod that asks for nothing."""


def believe(sandbox: Sandbox, keys: KeyRing) -> Belief:
    """The intent, if one of the keys sealed it for this pod. The runtime has not said the containers' names yet: those
    that the intent does not name get nothing of it."""
    text = sandbox.annotations.get(ANNOTATION)
    if text is None:
        return SILENT
    try:
        return Belief(open_(text, sandbox.namespace, sandbox.name, None, keys))
    except IntentError as error:
        return Belief(doubt=str(error), reason=error.reason)
