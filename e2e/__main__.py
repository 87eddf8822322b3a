"""``python -m e2e``: the lab for people. A real cluster in one command, and nothing of it left after another."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from e2e.lab import armistice, kind, local, netns, rootfs, terminal, tools
from e2e.lab.cache import cache_folder
from e2e.lab.errors import LabError
from e2e.lab.kubelet import Containerd, KubeletVariant
from e2e.lab.progress import Progress
from e2e.lab.state import Run

DEFAULT = "up"
"""Name of a person's run; tests use others, which do not meet it."""

PASS_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""For commands whose arguments belong to somebody else."""


class Sentences(click.Group):
    """Says a LabError in one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LabError as error:
            click.echo(f"e2e: {error}", err=True)
            ctx.exit(2)


name_option = click.option("--name", default=DEFAULT, show_default=True, help="Which run, where there are several.")
provider_option = click.option(
    "--provider", type=click.Choice(["local", "kind"]), default="local", show_default=True, help="What makes the nodes."
)


@click.group(cls=Sentences, epilog="\b\nExample:\n  python -m e2e up --shape 2x4\n  python -m e2e kubectl get nodes")
def main() -> None:
    """A real Kubernetes cluster on this machine, to try Armistice on."""


@main.command()
def prepare() -> None:
    """Make everything that takes long and is kept: tools, emulator, the node's image, our own images."""
    progress = Progress()
    netns.require()
    tools.build_all(tuple(tools.TOOLS), progress)
    rootfs.emulator(progress)
    for suite in sorted({containerd.suite for containerd in Containerd}):
        rootfs.root_image(progress, suite)
    for component in armistice.COMPONENTS:
        armistice.image(component, progress)
    progress.say(f"everything is in {cache_folder()}")


@main.command(epilog="\b\nExample:\n  python -m e2e up --shape 2x4")
@click.option("--shape", default="2x4", show_default=True, help="NUMA shape of the node; none for no node.")
@click.option("--kubelet", type=click.Choice([v.value for v in KubeletVariant]), default="none", show_default=True)
@provider_option
@name_option
def up(shape: str, kubelet: str, provider: str, name: str) -> None:
    """Start a cluster; the first time its tools and its image are built, which takes 20 to 25 minutes."""
    progress = Progress()
    if provider == "kind":
        cluster = kind.Cluster.called(name, progress)
        with progress.phase("cluster ready"):
            cluster.create()
        click.echo(f"kubeconfig  {cluster.kubeconfig}\nnext        kubectl --kubeconfig {cluster.kubeconfig} get nodes")
        return
    lab = local.Lab.up(name, shape, KubeletVariant(kubelet), progress)
    progress.say("up")
    flag = "" if name == DEFAULT else f" --name {name}"
    click.echo(f"kubeconfig  {lab.plane.kubeconfig} (inside the network namespace {lab.run.netns})")
    click.echo(f"next        python -m e2e kubectl{flag} get nodes,pods -A")


@main.command()
@name_option
def status(name: str) -> None:
    """What runs."""
    lab = local.Lab.find(name)
    click.echo(f"run         {lab.run.name} in {lab.run.folder}, network namespace {lab.run.netns}")
    click.echo(f"API server  https://127.0.0.1:{lab.plane.port} inside the namespace")
    for daemon, pid in lab.run.daemons().items():
        click.echo(f"{daemon:24} {f'pid {pid}, {lab.memory(pid)} MiB' if pid else 'ended'}")
    for node in lab.ready_nodes():
        click.echo(f"node        {node}")


@main.command(context_settings=PASS_ON, epilog="\b\nExample:\n  python -m e2e kubectl get pods -A")
@name_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, arguments: tuple[str, ...]) -> None:
    """kubectl as the cluster's admin."""
    plane = local.Lab.find(name).plane
    argv = plane.inside([str(plane.kubectl_path), f"--kubeconfig={plane.kubeconfig}", *arguments])
    os.execvp(argv[0], argv)


@main.command("exec", context_settings=PASS_ON, epilog="\b\nExample:\n  python -m e2e exec node1 lscpu")
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a shell command as root on a node."""
    done = local.Lab.find(name).sh(node, " ".join(command))
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    sys.exit(done.code)


@main.command(epilog="\b\nExample:\n  python -m e2e ssh node1")
@name_option
@click.argument("node")
def ssh(name: str, node: str) -> None:
    """A root shell on a node, for a person; Ctrl-] leaves it."""
    terminal.attach(local.Lab.find(name).folder_of(node) / "console.sock")


@main.command(epilog="\b\nExample:\n  python -m e2e load node1 webhook")
@name_option
@click.argument("node")
@click.argument("component", type=click.Choice(armistice.COMPONENTS))
def load(name: str, node: str, component: str) -> None:
    """Build one of our images from the checkout and give it to a node."""
    progress = Progress()
    local.Lab.find(name).load(node, armistice.image(component, progress), progress)
    click.echo(f"pods on {node} may now use {armistice.image_name(component)} with imagePullPolicy: Never")


@main.command(epilog="\b\nExample:\n  python -m e2e logs kube-apiserver")
@name_option
@click.argument("daemon", default="")
def logs(name: str, daemon: str) -> None:
    """The output of a daemon; without one, where all of it is."""
    lab = local.Lab.find(name)
    if not daemon:
        for file in sorted(lab.run.logs.glob("*.log")):
            click.echo(f"{file.stem:24} {file}")
        return
    with lab.log(daemon).open("rb") as content:
        for line in content:
            click.echo(line, nl=False)


@main.command(epilog="\b\nExample:\n  python -m e2e faults --list\n  python -m e2e faults etcd-paused disk-full")
@click.option("--list", "only_list", is_flag=True, help="Say what they are, and do nothing.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def faults(names: tuple[str, ...], only_list: bool) -> None:
    """Break what a cluster stands on, and see whether what must hold does; all faults, or those named.

    Exit code 0: all held; 1: one did not; 2: one could not be shown.
    """
    from e2e import faults as every  # pytest, which the other commands do without

    wanted = every.chosen(names)
    if only_list:
        for fault in wanted:
            click.echo(f"{fault.name}\n{every.described(fault)}")
        return
    netns.require()
    record = every.run(wanted)
    for fault in wanted:
        click.echo(f"\n{every.line(record, fault)}\n{every.described(fault)}")
    sys.exit(every.status(record, wanted))


@main.command()
@provider_option
@name_option
def down(provider: str, name: str) -> None:
    """End the cluster. Nothing of it is left: no process, no mount, no file but the cache."""
    if provider == "kind":
        kind.Cluster.called(name).delete()
    else:
        Run.find(name).down()
    click.echo(f"the run {name!r} is down")


if __name__ == "__main__":
    main(prog_name="python -m e2e")
