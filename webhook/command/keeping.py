"""``armistice webhook --installation``: certificates and keys that the process keeps in its cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from shared.errors import InputError
from shared.seal import KeyRing, SigningKey
from webhook.admission import Session
from webhook.authority import Terms
from webhook.certs import Certificate, utc_now
from webhook.cluster.writing import Writer, account
from webhook.installation import Installation
from webhook.keeper import Keeper, Pace
from webhook.metrics import KeeperMetrics


def installation(name: str, cluster: bool, signing_key: Path | None) -> Installation:
    """The one that was named. Raises InputError where other flags or the environment do not go with it."""
    if not cluster:
        raise InputError(f"--installation {name}: its Secrets are in a cluster; give --cluster too")
    if signing_key:
        raise InputError(
            f"--installation {name} and --signing-key: the key is kept in the Secret {name}-signing; put it there, "
            "under intent.key, and leave --signing-key out"
        )
    return Installation.of(name, os.environ)


class Keeping:
    """What it takes to keep them."""

    def __init__(
        self,
        session: Session,
        installation: Installation,
        own: Certificate | None,
        names: Sequence[str],
        terms: Terms,
        pace: Pace,
    ) -> None:
        """``own`` is the live certificate, where it is ours to make; ``names`` are what clients call us beside the
        Service's names."""

        def learn(key: SigningKey, keys: KeyRing) -> None:
            session.learn(key=key, keys=keys)

        self.owner = account(installation.account, installation.namespace)
        self.keeper = Keeper(installation, own, [*installation.dns_names, *names], learn, terms, pace)
        self.metrics = KeeperMetrics(lambda: self.keeper.figures)

    def unable(self) -> str:
        """Why nothing can be sealed; empty when it can."""
        return self.keeper.unready() if self.keeper.keys is None else ""

    async def run(self, api: Any) -> None:
        """With a client of the cluster, until it is cancelled."""
        await self.keeper.run(Writer(api, utc_now, self.owner))


def times(leaf_life: float, look: float, key_delay: float) -> tuple[Terms, Pace]:
    """From the flags, in seconds."""
    return Terms(leaf_life=timedelta(seconds=leaf_life)), Pace(look=look, key_delay=timedelta(seconds=key_delay))
