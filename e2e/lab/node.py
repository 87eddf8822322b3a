"""A node: a virtual machine of any NUMA shape with a real kernel, containerd and kubelet, joined to a control plane.

1. Certificates and settings go to a small disk of the node's own; the root disk is an overlay over the cached image.
2. QEMU runs in the run's namespace. A cable leads to it, and through it to its pods: the API server reaches both, and
   they reach the API server.
3. The guest boots to a shell that answers, then its kubelet registers and becomes Ready.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from e2e.lab import console, netns
from e2e.lab.controlplane import ControlPlane, host_address, node_address
from e2e.lab.errors import LabError
from e2e.lab.kubelet import Containerd, KubeletVariant, NodeSettings, Runtime, node_files
from e2e.lab.rootfs import Emulator, RootImage, emulator, make_filesystem, root_image
from e2e.lab.shapes import Shape, kernel_arguments, machine_arguments
from e2e.lab.tools import build
from e2e.lab.unpacked import image_disk

BOOT_TRIES = 3
"""Emulated CPUs crash or hang in early boot now and then; a guest whose shell does not answer is started again."""

SHELL_WITHIN = 120.0
"""Seconds until the guest's shell answers; measured 7 on two idle cores, 16 on busy ones."""

REBOOTED_WITHIN = 180.0
"""Seconds from a guest's shell to its kubelet's word to the API server; measured 10 to 20."""


class Accelerator(Enum):
    """What executes the guest's instructions."""

    TCG = "tcg"
    """Software: works everywhere."""
    KVM = "kvm"
    """The CPU itself: only where it is allowed."""


def accelerator(cpu_info: str) -> Accelerator:
    """KVM only where the CPU says that it can; /dev/kvm may be there and not work."""
    flags = {flag for line in cpu_info.splitlines() if line.startswith("flags") for flag in line.split()}
    return Accelerator.KVM if flags & {"vmx", "svm"} and Path("/dev/kvm").exists() else Accelerator.TCG


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that QEMU is told about one node."""

    shape: Shape
    number: int
    """Counted from 1; chooses the node's network."""
    name: str
    kernel: Path
    initrd: Path
    disk: Path
    settings: Path
    images: Path
    sockets: Path
    """Folder of the Unix sockets of the monitor, the agent and the console."""
    accelerator: Accelerator = Accelerator.TCG
    snapshot: str = ""
    """Name of the snapshot to go on from; empty to boot."""


def qemu_arguments(machine: Machine) -> list[str]:
    """QEMU's command line after the program, as a pure function."""
    snapshot = ["-loadvm", machine.snapshot] if machine.snapshot else []
    return [
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *_processor(machine.accelerator),
        *machine_arguments(machine.shape),
        *("-kernel", str(machine.kernel), "-initrd", str(machine.initrd), "-append", kernel_command_line(machine)),
        *_disks(machine),
        *_network(machine.number),
        *("-device", "virtio-rng-pci"),
        *_consoles(machine.sockets),
        *snapshot,
    ]


def _processor(chosen: Accelerator) -> list[str]:
    if chosen is Accelerator.KVM:
        return ["-M", "q35", "-accel", "kvm", "-cpu", "host"]
    # Westmere has what a distribution needs, can have hardware threads and costs less to emulate than `max`.
    return ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "Westmere"]


def kernel_command_line(machine: Machine) -> str:
    """The guest kernel's; a machine id of the node's own, and nothing that only costs time."""
    identity = hashlib.md5(machine.name.encode(), usedforsecurity=False).hexdigest()
    cheaper = ["mitigations=off", "audit=0", "nowatchdog", "no_timer_check", "rcupdate.rcu_expedited=1"]
    own = [f"systemd.machine_id={identity}", "systemd.unit=lab.target"]
    return " ".join(["console=ttyS0", "loglevel=4", "panic=-1", *cheaper, *own, *kernel_arguments(machine.shape)])


def _disks(machine: Machine) -> list[str]:
    """The root disk, written without care for power cuts; the settings and the images, which nobody writes."""
    drives = {
        "root": f"file={machine.disk},format=qcow2,cache=unsafe",
        "settings": f"file={machine.settings},format=raw,readonly=on",
        "images": f"file={machine.images},format=raw,readonly=on",
    }
    words = []
    for name, what in drives.items():
        words += ["-drive", f"if=none,id={name},{what}", "-device", f"virtio-blk-pci,drive={name}"]
    return words


def _network(number: int) -> list[str]:
    """A cable to the run's namespace."""
    cable = f"tap,model=virtio-net-pci,mac=52:54:00:00:00:{number:02x},ifname={device(number)},script=no,downscript=no"
    return ["-nic", cable]


def device(number: int) -> str:
    """What the namespace calls its end of a node's cable."""
    return f"node{number}"


def _consoles(sockets: Path) -> list[str]:
    """The kernel's messages to standard output, a console for people, the agent's port and the monitor."""
    return [
        *("-serial", "stdio"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=console,path={sockets / 'console.sock'},server=on,wait=off"),
        *("-device", "virtconsole,chardev=console"),
        *("-chardev", f"socket,id=agent,path={sockets / 'agent.sock'},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=lab.agent"),
        *("-qmp", f"unix:{sockets / 'monitor.sock'},server=on,wait=off"),
    ]


@dataclass(slots=True)
class Node:
    """One node of a control plane."""

    plane: ControlPlane
    shape: Shape
    name: str = "node1"
    kubelet: KubeletVariant = KubeletVariant.NONE
    number: int = 1
    runtime: Runtime = Runtime.RUNC
    containerd: Containerd = Containerd.DEBIAN
    accelerator: Accelerator = field(default_factory=lambda: accelerator(Path("/proc/cpuinfo").read_text()))
    extra_images: Sequence[Path] = ()
    """OCI archives that the node's containerd gets besides pause and busybox."""

    @property
    def folder(self) -> Path:
        """Its disks and sockets."""
        return self.plane.folder / "nodes" / self.name

    @property
    def daemon(self) -> str:
        """Name of its process in the run."""
        return f"qemu-{self.name}"

    @property
    def address(self) -> str:
        """Its InternalIP."""
        return node_address(self.number)

    def boot(self) -> None:
        """From nothing to a guest whose shell answers."""
        image, machine = self.prepare(), self.machine()
        with self.plane.run.progress.phase(f"node {self.name} ({self.shape.name}) booted"):
            self._start_again(machine, lambda: make_overlay(emulator(self.plane.run.progress), image, machine.disk))

    def _start_again(self, machine: Machine, ready: Callable[[], None]) -> None:
        """Start the machine until it starts, after ``ready`` each time."""
        why = ""
        for attempt in range(1, BOOT_TRIES + 1):
            ready()
            try:
                self.start(machine)
                return
            except LabError as error:
                why = str(error)
                self.plane.run.say(f"node {self.name} did not boot, try {attempt} of {BOOT_TRIES}: {error}")
                self.plane.run.end(self.daemon)
        raise LabError(f"node {self.name} did not boot in {BOOT_TRIES} tries ({why}); see {self.log}")

    def prepare(self) -> RootImage:
        """Its folder, its cable in the namespace and its settings disk; the image that it is to boot."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.connect()
        self._write_settings()
        return root_image(self.plane.run.progress, self.containerd.suite)

    def machine(self, snapshot: str = "") -> Machine:
        """What QEMU is told, to boot or to go on from a snapshot in the disk."""
        image = root_image(self.plane.run.progress, self.containerd.suite)
        return Machine(
            shape=self.shape,
            number=self.number,
            name=self.name,
            kernel=image.kernel,
            initrd=image.initrd,
            disk=self.folder / "root.qcow2",
            settings=self.folder / "settings.img",
            images=image_disk(image, self.extra_images, self.plane.run.progress),
            sockets=self.folder,
            accelerator=self.accelerator,
            snapshot=snapshot,
        )

    def start(self, machine: Machine) -> None:
        """Start QEMU and wait for the guest's shell. Raises GuestEndedError when QEMU ends before that."""
        qemu = emulator(self.plane.run.progress)
        argv = [*qemu.command("qemu-system-x86_64"), *qemu.data(), *qemu_arguments(machine)]
        for name in ("agent", "monitor", "console"):
            (self.folder / f"{name}.sock").unlink(missing_ok=True)
        self.plane.run.spawn(self.daemon, argv, env=qemu.environment())
        self._wait_shell()

    def _wait_shell(self) -> None:
        end = time.monotonic() + SHELL_WITHIN
        while time.monotonic() < end:
            if said := self.plane.run.ended(self.daemon):
                raise console.GuestEndedError(f"QEMU {said}")
            try:
                self.agent("true", seconds=2, grace=1)
                return
            except LabError:
                time.sleep(0.2)
        raise LabError(f"the shell of node {self.name} did not answer within {SHELL_WITHIN:.0f} s; see {self.log}")

    @property
    def log(self) -> Path:
        """What QEMU and the guest's kernel said."""
        return self.plane.run.logs / f"{self.daemon}.log"

    def agent(self, script: str, seconds: float = 60, grace: float = console.GRACE) -> console.Reply:
        """Run a shell script as root in the guest: its exit code and what it said."""
        return console.run_in_guest(self.folder / "agent.sock", script, seconds, grace)

    def sh(self, script: str, seconds: float = 60) -> str:
        """Standard output of a shell script run as root in the guest. Raises LabError when it fails."""
        done = self.agent(script, seconds)
        if done.code:
            why = f"did not end within {seconds:.0f} s" if done.code == 124 else f"exit code {done.code}"
            raise LabError(f"on node {self.name} `{script.strip()}` failed ({why}): {done.stderr.strip()}")
        return done.stdout

    def wait_ready(self, timeout: float = 600) -> None:
        """Wait until the API server calls the node Ready."""
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        end = time.monotonic() + timeout
        with self.plane.run.progress.phase(f"node {self.name} Ready"):
            while (found := self.plane.kubectl_raw("get", "node", self.name, "-o", path)).stdout != "True":
                if said := self.plane.run.ended(self.daemon):
                    raise LabError(f"node {self.name} {said}; see {self.log}")
                if time.monotonic() > end:
                    raise LabError(self._not_ready(timeout, found))
                time.sleep(0.3)

    def _not_ready(self, timeout: float, found: subprocess.CompletedProcess[str]) -> str:
        journal = self.agent("journalctl -q -n 20 -u kubelet -u containerd -o cat | grep -E '^E|level=(error|fatal)'")
        last = (journal.stdout.strip().splitlines() or [found.stderr.strip() or "no complaint in its journal"])[-1]
        return f"node {self.name} was not Ready within {timeout:.0f} s; its kubelet says: {last}"

    def stop(self) -> None:
        """End the machine at once; returns when QEMU is gone and its ports are free."""
        self.plane.run.end(self.daemon)

    def reboot(self) -> None:
        """A hard reset after what was written has reached the disk: no service of the guest is asked. Waits for Ready.

        The machine ends instead of resetting itself (`-no-reboot`), and is started again from the same disks.
        """
        before = self._boot_id()
        with suppress(LabError):  # it does not answer any more
            self.agent("sync; echo u >/proc/sysrq-trigger; sleep 1; echo b >/proc/sysrq-trigger", seconds=10, grace=1)
        with self.plane.run.progress.phase(f"node {self.name} rebooted"):
            self._start_again(self.machine(), self.stop)
            end = time.monotonic() + REBOOTED_WITHIN
            while self._boot_id() == before:
                if time.monotonic() > end:
                    raise LabError(f"the kubelet of node {self.name} did not come back within {REBOOTED_WITHIN:.0f} s")
                time.sleep(0.5)
        self.wait_ready()

    def _boot_id(self) -> str:
        """Of the boot that its kubelet has told the API server about."""
        path = "jsonpath={.status.nodeInfo.bootID}"
        return self.plane.kubectl("get", "node", self.name, "-o", path)

    def connect(self) -> None:
        """The namespace's end of the cable. Its address there stays the same over snapshots, for the guest knows it."""
        netns.add_tap(
            self.plane.netns,
            device(self.number),
            mac=f"02:00:00:00:00:{self.number:02x}",
            network=f"{host_address(self.number)}/24",
            beyond=self.pods,
            router=self.address,
        )

    @property
    def pods(self) -> str:
        """Its pods' addresses, CIDR."""
        return f"10.85.{self.number}.0/24"

    def settings(self) -> NodeSettings:
        """What its settings disk says."""
        return NodeSettings(
            name=self.name,
            address=self.address,
            gateway=host_address(self.number),
            port=self.plane.port,
            pods=self.pods,
            variant=self.kubelet,
            runtime=self.runtime,
            containerd=self.containerd,
        )

    def _write_settings(self) -> None:
        """Settings, certificates and the kubelet itself on a disk of the node's own."""
        content = self.folder / "settings"
        shutil.rmtree(content, ignore_errors=True)
        for name, text in node_files(self.settings()).items():
            path = content / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self._write_certificates(content / "pki")
        progress = self.plane.run.progress
        shutil.copy(build(self.containerd.kubelet, progress), content / "kubelet")
        (content / "bin").mkdir()
        for program in self.containerd.programs:
            shutil.copy(build(program, progress), content / "bin")
        used = sum(path.stat().st_size for path in content.rglob("*") if path.is_file())
        make_filesystem(self.folder / "settings.img", content, f"{used // 2**20 * 11 // 10 + 16}M")
        shutil.rmtree(content)

    def _write_certificates(self, folder: Path) -> None:
        """A client's certificate as the node authorizer wants it, and a server's for the kubelet's own port."""
        folder.mkdir(parents=True)
        user = f"system:node:{self.name}"
        pairs = {
            "client": self.plane.issue(user, ("system:nodes",), client=True),
            "server": self.plane.issue(f"kubelet-{self.name}", dns=(self.name,), ips=(self.address,)),
        }
        for name, (certificate, key) in pairs.items():
            shutil.copy(certificate, folder / f"{name}.crt")
            shutil.copy(key, folder / f"{name}.key")
        shutil.copy(self.plane.ca_pem, folder / "ca.crt")


def make_overlay(qemu: Emulator, image: RootImage, disk: Path) -> None:
    """A disk that holds only what differs from the root image, and names the image's path."""
    options = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk), str(disk)]
    done = subprocess.run([*qemu.command("qemu-img"), *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"qemu-img could not make {disk}: {done.stderr.strip()}; is the disk full?")
