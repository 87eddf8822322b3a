"""Container images without a registry: OCI archives written by ourselves, from files of Debian's packages.

`ctr images import` and `podman load` read them. The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Image:
    """What an image holds and runs."""

    name: str
    """With its tag, as pods name it."""
    files: Mapping[str, bytes]
    """Executables and other files by path, all with mode 755."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links: path to target."""
    folders: Sequence[str] = ()
    command: Sequence[str] = ()


def archive(*images: Image) -> bytes:
    """The images as one OCI layout in a tar: one archive, for each import costs a start of `ctr`."""
    entries, blobs = [], {}
    for image in images:
        entry, parts = _parts(image)
        entries.append(entry)
        blobs.update({f"blobs/sha256/{hashlib.sha256(part).hexdigest()}": part for part in parts})
    index = _json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})
    return _tar({"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}, {}, ())


def _parts(image: Image) -> tuple[dict[str, object], tuple[bytes, ...]]:
    """The image's entry in the index, and its blobs."""
    layer = _tar(image.files, image.links, image.folders)
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": list(image.command), "Env": ["PATH=/bin:/usr/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _descriptor(f"{OCI}.config.v1+json", config),
            "layers": [_descriptor(f"{OCI}.layer.v1.tar", layer)],
        }
    )
    tag = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
    return {**_descriptor(f"{OCI}.manifest.v1+json", manifest), "annotations": tag}, (layer, config, manifest)


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _tar(files: Mapping[str, bytes], links: Mapping[str, str], folders: Sequence[str]) -> bytes:
    """A tar without times and owners, so that equal content is equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in folders:
            tar.addfile(_info(name, tarfile.DIRTYPE))
        for name, content in files.items():
            info = _info(name, tarfile.REGTYPE)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in links.items():
            info = _info(name, tarfile.SYMTYPE)
            info.linkname = target
            tar.addfile(info)
    return out.getvalue()


def _info(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755
    return info


PAUSE = "localhost/pause:1"
BUSYBOX = "localhost/busybox:1"


def pause(busybox: bytes) -> Image:
    """The container that holds a pod's namespaces: it sleeps. containerd ends it with SIGKILL: no handlers."""
    return Image(PAUSE, {"bin/busybox": busybox}, folders=("bin",), command=("/bin/busybox", "sleep", "2147483647"))


def busybox_tools(busybox: Path) -> Image:
    """busybox with a link for each of its commands."""
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = {f"bin/{name}": "busybox" for name in listed if name != "busybox"}
    return Image(BUSYBOX, {"bin/busybox": busybox.read_bytes()}, links, ("bin", "etc", "proc", "sys", "tmp"), ("sh",))


def base_images(busybox: Path) -> bytes:
    """The archive that every node gets, from a static busybox."""
    return archive(pause(busybox.read_bytes()), busybox_tools(busybox))
