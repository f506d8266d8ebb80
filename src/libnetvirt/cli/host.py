"""What is wrong with the machine that netvirtd runs on, and with what it needs. Changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import pwd
import shlex
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from libnetvirt.configuration import (
    PATH,
    Configuration,
    TcpListener,
    TlsListener,
    UnixListener,
    load,
    running,
    tokens,
)
from libnetvirt.configuration.certificates import expiry
from libnetvirt.errors import ConnectionFailed, InvalidDescription, NetvirtError
from libnetvirt.ovsdb import preparation
from libnetvirt.ovsdb.bridges import Wanted
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.uri import URI

#: seconds until a database or controller must have accepted a connection
TIMEOUT: Final = 3.0
#: days before the end of a certificate from which on it is told
SOON: Final = 21
#: bytes that have to be free where a state file is
FREE: Final = 64 * 2**20
#: the options of drivers' URIs that name databases
#: what the option state begins with if the state is in a cluster
_CLUSTER: Final = "ovsdb:"
_DATABASES: Final = ("ovsdb", "nb", "sb", "vswitch")
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronized


class Finding(NamedTuple):
    """Something that is wrong: in which area, what, the command that corrects it or shows more.

    ``unsafe``: frames may pass outside of networks' rules, or everybody may change them.
    """

    area: str
    text: str
    remedy: str
    unsafe: bool = False


def examine(file: Path, wanted: Wanted) -> list[Finding]:
    """All that is wrong. ``file``: the configuration, which may be missing if it is the default one.

    Blocks, for some seconds where something does not answer.
    """
    found = [*clock()]
    if file == PATH and not file.exists():
        return [*found, *bridges(wanted)]
    try:
        configuration = load(file)
    except InvalidDescription as error:
        correct = f"${{EDITOR:-vi}} {_quoted(file)}; netvirt config check {_quoted(file)}"
        found += [Finding("configuration", str(fault), correct) for fault in error.faults]
    else:
        found += [*_configuration_file(file), *_states(configuration), *_sockets(configuration, file)]
        found += [*_databases(configuration), *_access(configuration)]
    return [*found, *bridges(wanted)]


def clock() -> Iterator[Finding]:
    """Whether the kernel's clock is synchronized: times in logs, and the validity of certificates."""
    buffer = ctypes.create_string_buffer(256)  # struct timex; zeros ask and set nothing
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) == _TIME_ERROR:
        yield Finding(
            "clock",
            "the clock is not synchronized: times in logs and the validity of certificates are not reliable",
            "timedatectl set-ntp true",
        )


def bridges(wanted: Wanted) -> Iterator[Finding]:
    """What is wrong with the bridges of Open vSwitch on this machine, if there is one."""
    remote = Remote.local()
    if not Path(remote.path).exists():
        return
    try:
        examined = preparation.examine(remote, (), wanted)
    except ConnectionFailed as error:
        yield Finding("Open vSwitch", str(error), "systemctl restart openvswitch-switch")
        return
    for bridge in examined:
        for fault in bridge.faults:
            yield Finding(f"bridge {bridge.name}", fault.text, fault.remedy, fault.unsafe)
        for target in bridge.controllers:
            kind, _, place = target.partition(":")
            if kind in ("tcp", "ssl") and (why := _unreachable(Remote.parse(f"tcp:{place}", 6653))):
                yield Finding(
                    f"bridge {bridge.name}",
                    f"its controller {target} cannot be reached: {why}",
                    "on the controller's machine: netvirt doctor --host",
                )


def _access(configuration: Configuration) -> Iterator[Finding]:
    """What is wrong, or soon will be, with certificates and tokens of clients on the network."""
    listeners = [one for one in configuration.listeners if isinstance(one, TlsListener | TcpListener)]
    for listener in listeners:
        if isinstance(listener, TlsListener):
            valid = expiry(Path(listener.certificate).read_text(errors="replace"))
            if valid is not None and (left := (valid[1] - time.time()) / 86400) < SOON:
                yield Finding(
                    f"listener {listener.path}",
                    f"its certificate {listener.certificate} expires in {left:.0f} days",
                    f"openssl x509 -in {_quoted(Path(listener.certificate))} -noout -dates",
                )
    file = Path(configuration.tokens)
    if listeners and file.exists():
        if file.stat().st_mode & 0o077:
            yield Finding(
                "tokens", f"{file} can be read or changed by others", f"chmod 600 {_quoted(file)}", True
            )
            return
        try:
            tokens.read(file)
        except NetvirtError as error:
            yield Finding("tokens", str(error), f"ls -l {_quoted(file)}")


def _configuration_file(file: Path) -> Iterator[Finding]:
    if file.stat().st_mode & 0o022:
        yield Finding("configuration", f"{file} can be changed by others", f"chmod go-w {_quoted(file)}")


def _states(configuration: Configuration) -> Iterator[Finding]:
    user = _user(configuration)
    for name, settings in configuration.connections.items():
        text = URI.parse(settings.uri).options.get("state", "")
        if not text or text == ":memory:":
            continue
        area, file = f"connection {name}", Path(text).absolute()
        if text.startswith(_CLUSTER):
            yield from _members(area, text.removeprefix(_CLUSTER))
            continue
        if not file.parent.is_dir():
            yield Finding(
                area,
                f"there is no directory {file.parent} for its state file",
                f"install -d -m 700 -o {user.pw_name} {_quoted(file.parent)}",
            )
            continue
        space = os.statvfs(file.parent)
        if space.f_bavail * space.f_frsize < FREE:
            yield Finding(
                area, f"less than {FREE >> 20} MiB are free in {file.parent}", f"df -h {_quoted(file.parent)}"
            )
        for path in (
            file.parent,
            *(file.with_name(file.name + end) for end in ("", "-wal", "-shm", "-commits")),
        ):
            yield from _ownership(area, path, user)


def _members(area: str, servers: str) -> Iterator[Finding]:
    with contextlib.suppress(InvalidDescription):
        for remote in Remote.parse_all(servers):
            if why := _unreachable(remote):
                text = f"the server {remote} of the cluster with its state cannot be reached: {why}"
                yield Finding(area, text, _reach(remote))


def _ownership(area: str, path: Path, user: pwd.struct_passwd) -> Iterator[Finding]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if found.st_uid != user.pw_uid and user.pw_uid != 0 and not stat.S_ISDIR(found.st_mode):
        owner = _name_of(found.st_uid)
        yield Finding(
            area,
            f"{path} belongs to {owner}, and netvirtd runs as {user.pw_name}",
            f"chown {user.pw_name}: {_quoted(path)}",
        )
    if not stat.S_ISDIR(found.st_mode) and found.st_mode & 0o077:
        yield Finding(area, f"{path} can be read by others", f"chmod 600 {_quoted(path)}")
    elif stat.S_ISDIR(found.st_mode) and found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        yield Finding(area, f"others can remove files in {path}", f"chmod go-w {_quoted(path)}")


def _sockets(configuration: Configuration, file: Path) -> Iterator[Finding]:
    answering = ""
    for listener in _unix(configuration):
        path = Path(listener.path)
        if not path.parent.is_dir():
            user = _user(configuration).pw_name
            yield Finding(
                "listeners",
                f"there is no directory {path.parent} for the socket {path.name}",
                f"install -d -o {user} {_quoted(path.parent)}",
            )
            continue
        try:
            reports = running.connections(listener.path)
        except NetvirtError as error:
            yield Finding("listeners", str(error), "systemctl start netvirtd; journalctl -u netvirtd -n 20")
            continue
        if path.stat().st_mode & 0o007:
            yield Finding("listeners", f"everybody can use {path}", f"chmod o= {_quoted(path)}", True)
        if not answering:
            for one in reports:
                if not one["open"]:
                    yield Finding(
                        f"connection {one['name']}", f"it is not open: {one['reason']}", "netvirt reload"
                    )
            in_use = running.configuration(listener.path)["configuration"]
            if Configuration.model_validate(in_use) != configuration:
                yield Finding(
                    "configuration",
                    f"netvirtd uses another configuration than {file} has now",
                    f"netvirt config check {_quoted(file)} && netvirt reload",
                )
        answering = listener.path
    if not answering:
        yield from _ports(configuration)


def _ports(configuration: Configuration) -> Iterator[Finding]:
    """Ports that netvirtd is to listen on, and that other programs use. It does not run."""
    for name, settings in configuration.connections.items():
        for text in filter(None, URI.parse(settings.uri).options.get("listen", "").split(",")):
            with contextlib.suppress(NetvirtError, OSError):
                remote = Remote.parse(text if text.startswith(("tcp:", "ssl:")) else f"tcp:{text}", 6653)
                if remote.kind != "unix" and _in_use(remote):
                    yield Finding(
                        f"connection {name}",
                        f"its port {remote.port} is in use by another program",
                        f"ss -ltnp 'sport = :{remote.port}'",
                    )


def _in_use(remote: Remote) -> bool:
    family = socket.AF_INET6 if ":" in remote.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((remote.host, remote.port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _databases(configuration: Configuration) -> Iterator[Finding]:
    for name, settings in configuration.connections.items():
        options = URI.parse(settings.uri).options
        for option in _DATABASES:
            with contextlib.suppress(InvalidDescription):
                for remote in Remote.parse_all(options[option], 6640) if options.get(option) else ():
                    if why := _unreachable(remote):
                        yield Finding(
                            f"connection {name}",
                            f"its database {remote} ({option}) cannot be reached: {why}",
                            _reach(remote),
                        )


def _reach(remote: Remote) -> str:
    if remote.kind == "unix":
        return f"ls -l {_quoted(Path(remote.path))}"
    return f"on that machine: ovs-appctl -t ovsdb-server ovsdb-server/add-remote p{remote.kind}:{remote.port}"


def _unreachable(remote: Remote) -> str:
    """Why no connection is accepted; empty if one is."""

    async def connect() -> None:
        async with asyncio.timeout(TIMEOUT):
            plain = Remote("tcp", host=remote.host, port=remote.port) if remote.kind == "ssl" else remote
            _, writer = await plain.connect(None)
            writer.close()

    try:
        asyncio.run(connect())
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return ""


def _user(configuration: Configuration) -> pwd.struct_passwd:
    """Who runs netvirtd: the owner of its socket, else the user of the unit, else who asks."""
    with contextlib.suppress(OSError, KeyError):
        return pwd.getpwuid(_first(path.stat().st_uid for path in _paths(configuration) if path.exists()))
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("netvirt")
    return pwd.getpwuid(os.geteuid())


def _paths(configuration: Configuration) -> Iterator[Path]:
    return (Path(listener.path) for listener in _unix(configuration))


def _unix(configuration: Configuration) -> Iterator[UnixListener]:
    return (one for one in configuration.listeners if isinstance(one, UnixListener))


def _first(numbers: Iterable[int]) -> int:
    return next(iter(numbers), -1)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
