"""Which cluster is meant: in a pod its own, elsewhere that of a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yaml import YAMLError

from shared.errors import InputError


def in_pod() -> bool:
    """Whether the service account counts: in a pod for which nobody set KUBECONFIG."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def given() -> str:
    """The kubeconfig, or several as in KUBECONFIG, where :func:`in_pod` is False."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


@contextmanager
def usable(refusal: type[Exception], other: str = "") -> Iterator[None]:
    """Makes an InputError of what a client raises about a kubeconfig: its own ``refusal``, and all sorts of others.

    ``other``: one more way out than KUBECONFIG.
    """
    try:
        yield
    except (refusal, OSError, ValueError, TypeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--cluster: {given()} is no usable kubeconfig: {reason}; set KUBECONFIG{other}") from error
