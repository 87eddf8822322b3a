"""An installation's names, which the chart renders too."""

from __future__ import annotations

import pytest

from shared.errors import InputError
from webhook.installation import Installation

POD = {"POD_NAMESPACE": "armistice-system", "POD_NAME": "armistice-webhook-7d9-x2x"}


def test_every_name_is_made_of_the_one() -> None:
    installation = Installation.of("armistice", POD)
    assert installation.identity == "armistice-webhook-7d9-x2x"
    assert (installation.authorities, installation.signing, installation.keys, installation.lease) == (
        "armistice-ca",
        "armistice-signing",
        "armistice-keys",
        "armistice-webhook",
    )
    assert installation.configuration == "zz-armistice"
    assert installation.labels == {
        "app.kubernetes.io/name": "armistice",
        "app.kubernetes.io/instance": "armistice",
        "app.kubernetes.io/managed-by": "armistice-webhook",
    }
    assert installation.dns_names == (
        "armistice-webhook.armistice-system.svc",
        "armistice-webhook",
        "armistice-webhook.armistice-system",
        "armistice-webhook.armistice-system.svc.cluster.local",
    )


BAD_NAME = "names begin with a letter and hold up to 50 of a-z, 0-9 and '-'; give the chart's full name"
NO_NAMESPACE = (
    "POD_NAMESPACE is not set, so that nobody knows where its Secrets are; "
    "set it to the namespace that Armistice runs in"
)

REFUSED = [
    ("a name with a capital", "Armistice", POD, BAD_NAME),
    ("a name that ends in a dash", "armistice-", POD, BAD_NAME),
    ("a name too long for its Service", "a" * 51, POD, BAD_NAME),
    ("a process that knows no namespace of its own", "armistice", {}, NO_NAMESPACE),
]


@pytest.mark.parametrize(("what", "name", "environment", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_an_installation_is_told(what: str, name: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as error:
        Installation.of(name, environment)
    assert str(error.value) == f"--installation {name}: {said}"
