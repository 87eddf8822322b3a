"""``armistice webhook --installation``: what does not go with it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from shared.errors import InputError
from webhook.command.webhook import webhook

NO_NAMESPACE = (
    "--installation armistice: POD_NAMESPACE is not set, so that nobody knows where its Secrets are; "
    "set it to the namespace that Armistice runs in"
)

REFUSED = [
    (
        "no cluster",
        ["--installation", "armistice"],
        {"POD_NAMESPACE": "x"},
        "--installation armistice: its Secrets are in a cluster; give --cluster too",
    ),
    ("no namespace", ["--installation", "armistice", "--cluster"], {}, NO_NAMESPACE),
    (
        "a key from elsewhere",
        ["--installation", "armistice", "--cluster", "--signing-key", "x.pem"],
        {"POD_NAMESPACE": "x"},
        "--installation armistice and --signing-key: the key is kept in the Secret armistice-signing; put it there, "
        "under intent.key, and leave --signing-key out",
    ),
]


@pytest.mark.parametrize(("what", "flags", "environment", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_does_not_go_with_an_installation_is_told(
    what: str, flags: list[str], environment: dict[str, str], said: str
) -> None:
    result = CliRunner(env={"POD_NAMESPACE": None, **environment}).invoke(webhook, flags)
    assert isinstance(result.exception, InputError)
    assert str(result.exception) == said
