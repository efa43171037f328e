"""Finds a TPU, and checks its addresses before TensorFlow connects to them.

TensorFlow waits forever for an address that is dead or not a TPU's. Here every check has a time
limit.
"""

import concurrent.futures
import glob
import http.client
import json
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tpu.slices import Slice, find_slice

SERVER_SECONDS = 9  # for a server: name resolution, connection and answer together
METADATA_SECONDS = 3
NODE_SECONDS = 5  # for a TPU's name: all requests together
PORT = 8470  # of TensorFlow's server on the hosts of a TPU
TPU_API = "https://tpu.googleapis.com/v2"
CHIPS = ("/dev/accel*", "/dev/vfio/[0-9]*")
NO_CHIPS = f"no TPU chips in this machine ({', '.join(CHIPS)})"


class NotFound(Exception):
    """There is no TPU at a place. The text says what is there instead."""


def in_background(function: Callable, *args: Any) -> concurrent.futures.Future:
    """Calls a function in a thread that the end of the program does not wait for.

    This gives a time limit to functions without one, such as name resolution: at the limit the
    future's `result(seconds)` raises `TimeoutError`, and the thread keeps running.
    """
    future = concurrent.futures.Future()

    def call():
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def address_problem(address: str) -> str | None:
    """What is wrong with the form of an address, which should be `host:port`; else None."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return f"{address!r} has no port"
    if not re.fullmatch(r"\w([\w.-]{0,251}\w)?", host, re.ASCII):  # TensorFlow takes no IPv6
        return f"{host!r} is neither a host name nor an IPv4 address"
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return f"port {port!r} is not a number from 1 to 65535"
    return None


def check_servers(addresses: list[str]) -> None:
    """Checks all servers at the same time; see `check_server`."""
    for check in [in_background(check_server, address) for address in addresses]:
        check.result()


def check_server(address: str) -> None:
    """Checks that a TensorFlow server with TPUs answers at `host:port` within `SERVER_SECONDS`.

    Raises:
        ValueError: says what is there instead.
    """
    deadline = time.monotonic() + SERVER_SECONDS
    host, _, port = address.rpartition(":")
    try:
        connection = in_background(socket.create_connection, (host, int(port)), SERVER_SECONDS)
        connection.result(SERVER_SECONDS).close()
        devices = _device_types(address, max(deadline - time.monotonic(), 0.5))
    except TimeoutError:
        problem = f"no answer in {SERVER_SECONDS} s"
    except (socket.gaierror, UnicodeError):
        problem = f"the host name {host} cannot be resolved"
    except OSError as error:
        problem = f"no connection ({error.strerror or error})"
    except NotFound as error:
        problem = str(error)
    else:
        if any(device.startswith("TPU") for device in devices):
            return
        kinds = ", ".join(sorted(set(devices))) or "none"
        problem = f"a TensorFlow server without TPUs answers (its devices: {kinds})"
    raise ValueError(
        f"TPU address grpc://{address}: {problem}; start the TPU's TensorFlow server there"
    )


def _device_types(address, seconds):
    """The device types of a TensorFlow server, such as `CPU`, `TPU_SYSTEM` and `TPU`."""
    import grpc

    # Like the connection before, without a proxy: hosts of a TPU are not behind one.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        status = channel.unary_unary("/tensorflow.WorkerService/GetStatus")
        try:
            answer = status(b"", timeout=seconds)  # an empty GetStatusRequest
        except grpc.RpcError as error:
            raise NotFound(f"no TensorFlow server answers ({error.code().name})") from None
    devices = [value for number, value in _fields(answer) if number == 1]
    return [dict(_fields(device))[2].decode() for device in devices]


def _fields(message):
    """(number, value) of each field of a protocol buffer.

    `GetStatusResponse` holds repeated `DeviceAttributes` in field 1, which hold their type in field
    2. Their Python classes are part of TensorFlow, which must not be loaded yet.
    """
    from google.protobuf import empty_pb2, unknown_fields

    fields = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(message))
    return [(field.field_number, field.data) for field in fields]


def find_tpu(
    tpu: str | None, slice_: Slice | None = None, tpu_address: str = ""
) -> tuple[str, Slice | None]:
    """Finds a TPU without TensorFlow, within seconds; see `tpu.strategy.get_strategy`.

    Args:
        tpu: as the user named it.
        slice_: what that stands for, if it is an accelerator type.
        tpu_address: of all hosts of that slice.

    Returns:
        Its address, `local` or `grpc://...`, and its slice, None if its type is unknown.

    Raises:
        ValueError: there is no such TPU.
    """
    if slice_:
        return _find_accelerator(slice_, tpu_address)
    if tpu_address or tpu is None:
        raise ValueError(f"tpu_address {tpu_address!r}: needs the TPU's accelerator type (v3-128)")
    if tpu == "local":
        return _local_chips()
    if tpu.startswith("grpc://"):
        return _servers(tpu)
    return _find_name(tpu)


def _servers(text, slice_=None):
    """The result of `find_tpu` for the addresses of servers, which must answer."""
    hosts = [part.removeprefix("grpc://") for part in text.split(",")]
    for host in hosts:
        if problem := address_problem(host):
            raise ValueError(f"TPU address {text!r}: {problem}; give grpc://HOST:8470")
    check_servers(hosts)
    if slice_ and len(hosts) != slice_.hosts:
        raise ValueError(
            f"tpu {slice_.accelerator_type!r}: has {slice_.hosts} hosts, but there are addresses "
            f"of {len(hosts)}"
        )
    return ",".join(f"grpc://{host}" for host in hosts), slice_


def _find_accelerator(slice_, tpu_address):
    if tpu_address:
        return _servers(tpu_address, slice_)
    tpu = slice_.accelerator_type
    try:
        found, hosts = find_vm()
        if found != tpu:
            raise ValueError(f"tpu {tpu!r}: this machine belongs to a {found}")
        return ("local", slice_) if slice_.hosts == 1 else _servers(",".join(hosts), slice_)
    except NotFound as error:
        reason = str(error)
    chips = find_chips()
    if chips and slice_.hosts == 1:
        return "local", slice_
    # A part of a slice would wait forever for the other parts.
    here = f"{len(chips)} chips of {slice_.chips} in this machine" if chips else NO_CHIPS
    raise ValueError(
        f"tpu {tpu!r}: not found: {reason}; {here}; give its address, or run on the TPU VM"
    )


def _find_name(tpu):
    if not re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", tpu):
        raise ValueError(
            f"tpu {tpu!r}: must be an accelerator type (v3-128), grpc://HOST:8470, local, or a "
            "TPU's name"
        )
    try:
        accelerator_type, hosts = find_node(tpu)
    except NotFound as error:
        raise ValueError(f"tpu {tpu!r}: cannot be looked up by name: {error}") from error
    slice_ = find_slice(accelerator_type)
    if slice_.hosts == 1 and _vm_or_nothing()[1] == hosts:
        return "local", slice_
    return _servers(",".join(hosts), slice_)


def _local_chips():
    if not find_chips():
        raise ValueError(f"tpu 'local': {NO_CHIPS}")
    accelerator_type, hosts = _vm_or_nothing()
    if len(hosts) > 1:
        raise ValueError(
            f"tpu 'local': this machine is one of the {len(hosts)} hosts of a {accelerator_type}; "
            "give that type"
        )
    return "local", None


def _vm_or_nothing():
    try:
        return find_vm()
    except NotFound:
        return None, []


def find_vm() -> tuple[str, list[str]]:
    """Finds the TPU of this machine with the metadata server of Google Cloud.

    Returns:
        The accelerator type, and `host:port` of all hosts.

    Raises:
        NotFound: there is no such server, or this machine is not a TPU VM.
    """
    accelerator_type = metadata("instance/attributes/accelerator-type")
    if not accelerator_type:
        raise NotFound(f"metadata server {_metadata_host()}: this machine is not a TPU VM")
    endpoints = metadata("instance/attributes/worker-network-endpoints") or ""
    # Entries such as `unknown:unknown:10.164.0.7`.
    hosts = [entry.rpartition(":")[2].strip() for entry in endpoints.split(",") if entry.strip()]
    return accelerator_type, [f"{host}:{PORT}" for host in hosts]


def find_node(name: str) -> tuple[str, list[str]]:
    """Looks up a TPU by its name, in the project and zone of this machine.

    TensorFlow's own look-up needs google-api-python-client, which it does not install.

    Returns:
        As `find_vm`.

    Raises:
        NotFound: Google Cloud does not answer.
        ValueError: it knows no such TPU, or it is not ready.
    """
    try:
        status, body, where = in_background(_ask_for_node, name).result(NODE_SECONDS)
    except TimeoutError:
        raise NotFound(f"Google Cloud: no answer in {NODE_SECONDS} s") from None
    if status != 200:
        said = f"{status} {http.HTTPStatus(status).phrase}"
        raise ValueError(f"tpu {name!r}: Google Cloud answers {said} for it {where}")
    node = json.loads(body)
    if node["state"] != "READY":
        raise ValueError(f"tpu {name!r}: it is {node['state']}; wait until it is READY")
    hosts = [endpoint["ipAddress"] for endpoint in node["networkEndpoints"]]
    return node["acceleratorType"], [f"{host}:{PORT}" for host in hosts]


def _ask_for_node(name):
    """What Google Cloud answers: (status, body, the project and zone in words)."""
    project = metadata("project/project-id")
    zone = (metadata("instance/zone") or "").rpartition("/")[2]
    token = metadata("instance/service-accounts/default/token")
    if not token:
        raise NotFound("this machine has no service account for Google Cloud")
    url = f"{TPU_API}/projects/{project}/locations/{zone}/nodes/{name}"
    headers = {"Authorization": f"Bearer {json.loads(token)['access_token']}"}
    try:
        status, _, body = _get(urllib.request.build_opener(), url, headers)
    except OSError as error:
        raise NotFound(f"{TPU_API}: no answer ({_reason(error)})") from error
    return status, body, f"in project {project}, zone {zone}"


def metadata(path: str) -> str | None:
    """A value of the metadata server, below `computeMetadata/v1`; None if it has none.

    Raises:
        NotFound: no metadata server of Google Cloud answers.
    """
    server = f"metadata server {_metadata_host()}"
    url = f"http://{_metadata_host()}/computeMetadata/v1/{path}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = in_background(_get, direct, url, {"Metadata-Flavor": "Google"})
        status, headers, body = answer.result(METADATA_SECONDS)
    except TimeoutError:
        raise NotFound(f"{server}: no answer in {METADATA_SECONDS} s") from None
    except (OSError, ValueError) as error:
        raise NotFound(f"{server}: no answer ({_reason(error)})") from error
    if headers.get("Metadata-Flavor") != "Google":  # other clouds use the same address
        raise NotFound(f"{server}: not Google Cloud's (it answered {status})")
    return body.decode(errors="replace").strip() if status == 200 else None


def _metadata_host():
    return os.environ.get("GCE_METADATA_HOST") or "169.254.169.254"


def _get(opener, url, headers):
    """(status, headers, body) of a URL, whatever the status. Raises `OSError`."""
    try:
        request = urllib.request.Request(url, headers=headers)
        with opener.open(request, timeout=NODE_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
    except http.client.HTTPException as error:
        raise OSError(f"not HTTP: {error!r}") from error


def _reason(error):
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or reason


def find_chips() -> list[str]:
    """The device files of the TPU chips in this machine."""
    return [path for pattern in CHIPS for path in sorted(glob.glob(pattern))]
