"""Strikes on the node at a moment of a pod's start, within milliseconds, which nobody outside of it could meet.

A loop on the node looks at the cgroups of the pods that come. What it runs then is a shell command of the scenario's.
"""

from __future__ import annotations

from enum import Enum

from e2e.lab.node import Node
from e2e.scenarios.enforcer.armed import until

STRUCK_WITHIN = 60.0
"""Seconds from the pod's creation."""

_PODS = "/sys/fs/cgroup/kubepods.slice/kubepods-pod*.slice"
"""Of pods whose requests are their limits."""


class Moment(Enum):
    """When to strike: a condition of the node's shell, with the cgroup of a pod that is new in $pod."""

    COMES = "true"
    """The kubelet has made the pod's cgroup; the runtime is asked next."""
    RESERVED = 'read -r kind <"$pod/cpuset.cpus.partition" && [ "$kind" = root ]'
    """The enforcer has just enclosed the pod, in the middle of RunPodSandbox, which it has yet to answer."""
    SANDBOX = 'set -- "$pod"/cri-containerd-*.scope && [ -e "$1" ]'
    """The pod's pause process has a cgroup; its containers are created next."""


def lie_in_wait(node: Node, moment: Moment, strike: str) -> None:
    """Have the node run a command at that moment of the next pod's start; returns when it waits for it."""
    node.sh(
        f"""rm -f /run/lab-waits /run/lab-struck
cat >/run/lab-ambush <<'END'
known=" $(echo {_PODS}) "
touch /run/lab-waits
while :; do
  for pod in {_PODS}; do
    case "$known" in *" $pod "*) continue ;; esac
    {{ {moment.value}; }} 2>/dev/null && break 2
  done
done
{strike}
touch /run/lab-struck
END
systemd-run -q --collect --unit=lab-ambush sh /run/lab-ambush
until [ -e /run/lab-waits ]; do sleep 0.1; done"""
    )


def wait_struck(node: Node) -> None:
    """Until it has done so."""
    until(lambda: node.agent("[ -e /run/lab-struck ]").code == 0, STRUCK_WITHIN, "the moment did not come", every=0.1)
