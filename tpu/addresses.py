"""Finds a TPU, and checks its addresses before TensorFlow connects to them.

TensorFlow waits forever for an address that is dead or not a TPU's. Here every check has a time
limit.
"""

import contextlib
import glob
import http.client
import os
import re
import urllib.request
from collections.abc import Iterable

from tpu.slices import Slice

SERVER_SECONDS = 9  # for all servers: name resolution, connection and answer together
METADATA_SECONDS = 3
PORT = 8470  # of TensorFlow's server on the hosts of a TPU
CHIPS = ("/dev/accel*", "/dev/vfio/[0-9]*")
NO_CHIPS = f"no TPU chips in this machine ({', '.join(CHIPS)})"


def check_address(address: str) -> None:
    """Checks the form of an address, `HOST:PORT`."""
    match = re.fullmatch(r"\w[\w.-]{0,252}:(\d{1,5})", address, re.ASCII)  # TensorFlow has no IPv6
    if not match or not 0 < int(match[1]) < 65536:
        raise ValueError(f"{address!r} is not of the form HOST:PORT")


def check_servers(hosts: Iterable[str]) -> None:
    """Checks that a TensorFlow server with TPUs answers at each `host:port`."""
    import grpc

    with contextlib.ExitStack() as stack:
        calls = {}
        for host in hosts:  # all at the same time; no proxy: hosts of a TPU are not behind one
            channel = grpc.insecure_channel(host, options=[("grpc.enable_http_proxy", 0)])
            ask = stack.enter_context(channel).unary_unary("/tensorflow.WorkerService/GetStatus")
            calls[host] = ask.future(b"", timeout=SERVER_SECONDS)
        for host, call in calls.items():
            try:
                if b"/device:TPU" in call.result():  # in the name of a device
                    continue
                problem = "a TensorFlow server without TPUs answers"
            except grpc.RpcError as error:
                problem = f"no TensorFlow server answers ({error.code().name}: {error.details()})"
            raise ValueError(
                f"TPU address grpc://{host}: {problem}; start the TPU's TensorFlow server there"
            )


def find_tpu(tpu: str | None, slice_: Slice | None = None, tpu_address: str = "") -> str:
    """Finds a TPU, within seconds; see `tpu.strategy.get_strategy`.

    Args:
        tpu: as the user named it.
        slice_: what that stands for, if it is an accelerator type.
        tpu_address: of all hosts of that slice.

    Returns:
        `local`, `grpc://...`, or the TPU's name, which TensorFlow looks up.
    """
    if tpu is None or tpu_address and slice_ is None:
        raise ValueError(f"tpu_address {tpu_address!r}: needs the TPU's accelerator type (v3-128)")
    if tpu_address or tpu.startswith("grpc://"):
        return _addresses((tpu_address or tpu).split(","), slice_)
    if slice_ is None and tpu != "local":
        if not re.fullmatch("[a-z][-a-z0-9]{0,62}", tpu):
            raise ValueError(
                f"tpu {tpu!r}: must be an accelerator type (v3-128), grpc://HOST:8470, local, or "
                "a TPU's name"
            )
        return tpu
    vm, hosts = find_vm()
    chips = find_chips()
    if slice_ is None:
        if not chips:
            raise ValueError(f"tpu 'local': {NO_CHIPS}")
        if len(hosts) > 1:
            raise ValueError(f"tpu 'local': this is one of {len(hosts)} hosts; give {vm}")
    elif vm == tpu:
        if slice_.hosts > 1:
            return _addresses(hosts, slice_)
    elif vm or not chips or slice_.hosts > 1:  # a part of a slice would wait for the others
        here = f"a host of a {vm}" if vm else "not a TPU VM of Google Cloud"
        raise ValueError(
            f"tpu {tpu!r}: this machine is {here}, with {len(chips)} chips; give the TPU's "
            "address, or run on its VM"
        )
    return "local"


def _addresses(texts: Iterable[str], slice_: Slice | None) -> str:
    hosts = [text.removeprefix("grpc://") for text in texts]
    for host in hosts:
        check_address(host)
    if slice_ and len(hosts) != slice_.hosts:
        raise ValueError(
            f"tpu {slice_.accelerator_type!r}: has {slice_.hosts} hosts, but there are addresses "
            f"of {len(hosts)}"
        )
    return ",".join(f"grpc://{host}" for host in hosts)


def find_vm() -> tuple[str | None, list[str]]:
    """The TPU of this machine: its accelerator type, and `host:port` of all hosts.

    (None, []) if this is not a TPU VM of Google Cloud.
    """
    accelerator_type = metadata("instance/attributes/accelerator-type")
    if not accelerator_type:
        return None, []
    endpoints = metadata("instance/attributes/worker-network-endpoints") or ""
    # Entries such as `unknown:unknown:10.164.0.7`.
    hosts = [entry.rpartition(":")[2].strip() for entry in endpoints.split(",") if entry.strip()]
    return accelerator_type, [f"{host}:{PORT}" for host in hosts]


def metadata(path: str) -> str | None:
    """A value of Google Cloud's metadata server; None if it has none, or this is elsewhere."""
    server = os.environ.get("GCE_METADATA_HOST") or "169.254.169.254"
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"}
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=METADATA_SECONDS) as answer:
            if answer.headers.get("Metadata-Flavor") == "Google":  # other clouds have one, too
                return answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException):
        pass
    return None


def find_chips() -> list[str]:
    """The device files of the TPU chips in this machine."""
    return [path for pattern in CHIPS for path in sorted(glob.glob(pattern))]
