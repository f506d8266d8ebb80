"""The options of the openflow driver's URI, and the parts of a connection that are made from them.

What only these parts need is imported when they are made: commands that only read options start sooner.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from libnetvirt.controller.engine.options import Options
from libnetvirt.controller.intent.switches import parse_switch
from libnetvirt.controller.qos.enforcement import Enforcement
from libnetvirt.controller.topology.link_ports import LinkPorts
from libnetvirt.controller.topology.trust import Untrusted
from libnetvirt.drivers.openflow.capabilities import NAME, PRESETS
from libnetvirt.errors import InvalidDescription, InvalidURI
from libnetvirt.model import Encapsulation, Insertion, Rules, Timeout
from libnetvirt.ovsdb.remotes import FORMS, Remote, tls_context
from libnetvirt.settings import DriverSettings, File, OneOf, Owner, Shown, parsed_by
from libnetvirt.store.sqlite import MEMORY, default_path

if TYPE_CHECKING:
    from libnetvirt.controller.qos.capacities import Capacities
    from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases
    from libnetvirt.drivers.openflow.southbound.listener import Listen
    from libnetvirt.drivers.openflow.southbound.tls import Identity
    from libnetvirt.store.cluster import Cluster


#: what the option state begins with if the state is in a cluster
CLUSTER: Final = "ovsdb:"


class DriftAction(StrEnum):
    """What is done about drift that is found without being asked for."""

    REPAIR = "mend"
    REPORT = "report"


_DEFAULT = Options(rules=PRESETS["proactive"])


def _link_ports(text: str) -> LinkPorts:
    try:
        return LinkPorts.parse(text, parse_switch)
    except InvalidDescription as error:
        raise InvalidURI(
            f"{text!r}: {error}. Write ports as PORT or SWITCH/PORT, as in link-ports=eth*,1/101"
        ) from None


class OpenFlowSettings(DriverSettings):
    """The options of an ``openflow:///`` URI."""

    listen: Annotated[str, Shown("[ssl:|tcp:]ADDRESS:PORT or unix:PATH, or several")] = Field(
        "127.0.0.1:6653", description="where to wait for switches"
    )
    certificate: File = Field(
        None, description="the controller's certificate (PEM); switches must use TLS then"
    )
    key: File = Field(None, description="the certificate's private key (PEM)")
    ca: File = Field(None, description="the CA certificate of the switches (PEM)")
    crl: File = Field(None, description="the revocation list of that CA (PEM)")
    state: Annotated[
        str,
        Shown(
            f"FILE, {MEMORY} to keep nothing, or {CLUSTER} and the servers of a cluster",
            "/var/lib/libnetvirt/openflow.db for root, else ~/.local/state/libnetvirt/openflow.db",
        ),
    ] = Field("", description="where networks are kept")
    lease: float = Field(
        1.5,
        ge=0.3,
        le=60,
        description="with a cluster: seconds after which another controller takes over from one that is gone",
    )
    advertise: Annotated[str, Shown("HOST:PORT")] = Field(
        "",
        max_length=255,
        description="with a cluster: where clients reach this controller; clients of the others are told",
    )
    preset: Annotated[str, OneOf(tuple(PRESETS))] = Field(
        "proactive",
        description="rules of networks that do not choose theirs: proactive is vlan, offline, permanent; "
        "reactive is native, on-demand, idle after 60 s",
    )
    encapsulation: Annotated[Encapsulation | None, Shown(default="the preset's")] = Field(
        None, description="encapsulation of networks that do not choose theirs"
    )
    insertion: Annotated[Insertion | None, Shown(default="the preset's")] = Field(
        None, description="insertion of networks that do not choose theirs"
    )
    timeout: Annotated[Timeout | None, Shown(default="the preset's")] = Field(
        None,
        description="timeout of networks that do not choose theirs; offline rules are permanent",
    )
    duration: Annotated[int | None, Shown(default="60")] = Field(
        None, ge=1, le=65535, description="seconds of fixed and idle timeouts"
    )
    capacities: Annotated[File, Shown(default="the speed of ports")] = Field(
        None, description="the capacities of links, and links that LLDP does not find (TOML)"
    )
    enforcement: Annotated[
        Enforcement | None, Shown(default="the one in the file of capacities, else meter")
    ] = Field(
        None,
        description="what keeps min-bandwidth; queue-unchecked: queues also in datapaths that ignore them",
    )
    ovsdb: Annotated[Remote | None, parsed_by(Remote.parse), Shown(FORMS)] = Field(
        None,
        description="the database for queues of switches for which the file of capacities names none",
    )
    owner: Owner = Field("libnetvirt", description="marks the rows of this controller in these databases")
    lldp_interval: float = Field(
        _DEFAULT.lldp_interval, ge=0.1, le=60, description="seconds between LLDP frames on a link"
    )
    link_ports: Annotated[
        LinkPorts,
        parsed_by(_link_ports),
        Shown("[SWITCH/]PORT, or several: number or name, with *", "all ports"),
    ] = Field(_DEFAULT.link_ports, description="ports that may be links")
    host_age: int = Field(
        _DEFAULT.host_age, ge=5, le=65535, description="seconds after which a silent host expires"
    )
    host_limit: int = Field(
        _DEFAULT.host_limit, ge=1, le=65535, description="hosts that are learned per endpoint"
    )
    hold: float = Field(
        _DEFAULT.hold,
        ge=1,
        le=600,
        description="seconds until paths avoid a switch that is not connected; what has no other way stays",
    )
    packet_rate: float = Field(
        _DEFAULT.packet_rate,
        ge=10,
        le=1_000_000,
        description="packets per second that one endpoint may send to the controller",
    )
    error_rate: float = Field(
        _DEFAULT.error_rate,
        ge=1,
        le=100_000,
        description="ICMP errors per second that a router sends to one endpoint",
    )
    link_mtu: int = Field(
        _DEFAULT.link_mtu,
        ge=576,
        le=65535,
        description="bytes of the largest IP packet on links between switches",
    )
    audit: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="seconds between two comparisons of a switch with its expected rules; 0: only when it "
        "connects, and on demand",
    )
    drift: DriftAction = Field(
        DriftAction.REPAIR,
        description="what is done about rules that another program changed or removed: repair them, or "
        "report them",
    )
    confirm_timeout: float = Field(
        5.0, ge=0.1, le=600, description="seconds until a switch must have confirmed a change"
    )

    untrusted: Untrusted = Field(
        _DEFAULT.untrusted,
        description="new networks on a switch that may forward frames past their rules: refuse them, or warn",
    )

    def rules(self) -> Rules:
        """The rules of networks that do not choose theirs. Raises InvalidURI if the options contradict each
        other."""
        chosen = {
            name: value
            for name in ("encapsulation", "insertion", "timeout")
            if (value := getattr(self, name)) is not None
        }
        if self.duration is not None:
            chosen["duration"] = f"{self.duration} s"
        try:
            return Rules.model_validate(chosen).over(PRESETS[self.preset])
        except InvalidDescription as error:
            shown = ", ".join(f"{name}={value}" for name, value in chosen.items())
            raise InvalidURI(f"the options {shown} do not fit together: {error}") from None

    def read_capacities(self) -> tuple[str, str]:
        """The text of the file of capacities, and its name; both empty if there is none. Blocks while the
        file is read. Raises InvalidURI."""
        if self.capacities is None:
            return "", ""
        return read_file(self.capacities), self.capacities

    def files(self) -> dict[str, str]:
        found = super().files()
        in_file = self.state and self.state != MEMORY and not self.state.startswith(CLUSTER)
        return found | {"state": self.state} if in_file else found

    @property
    def state_path(self) -> str:
        return self.files().get("state", "" if self.state else str(default_path(NAME)))

    def identity(self) -> Identity | None:
        """The controller's certificate; None without TLS. Raises InvalidURI if only a part of it is given."""
        from libnetvirt.drivers.openflow.southbound.tls import FILES, Identity

        return Identity.parse(self.given(*FILES))

    def listens(self) -> list[Listen]:
        """The addresses to wait for switches at. Raises InvalidURI."""
        from libnetvirt.drivers.openflow.southbound.listener import Listen

        tls = self.identity() is not None
        return [Listen.parse(part, tls=tls) for part in self.listen.split(",")]

    def cluster(self) -> Cluster | None:
        """The cluster that the state is in, not opened; None if it is in a file or in memory. Raises
        InvalidURI."""
        if not self.state.startswith(CLUSTER):
            return None
        from libnetvirt.drivers.openflow.southbound.tls import FILES
        from libnetvirt.store.cluster import Cluster

        remotes = Remote.parse_all(self.state.removeprefix(CLUSTER))
        tls = tls_context(self.given(*FILES))
        if tls is None and any(remote.kind == "ssl" for remote in remotes):
            raise InvalidURI(f"option state={self.state!r}: ssl needs the options key, certificate and ca")
        return Cluster(remotes, tls, address=self.advertise, lease=self.lease)

    def databases(self, capacities: Capacities, file: str) -> QueueDatabases:
        """The databases of switches, from these options and from ``capacities``, read from ``file``.
        Raises InvalidURI, InvalidDescription."""
        from libnetvirt.drivers.openflow.ovsdb_queues.provisioner import QueueDatabases
        from libnetvirt.drivers.openflow.southbound.tls import FILES

        return QueueDatabases.parse(self.owner, self.ovsdb, capacities, file, self.given(*FILES))

    def controller_options(
        self, rules: Rules, capacities: str, capacities_file: str, enforcement: Enforcement
    ) -> Options:
        """The controller's options."""
        return Options(
            rules=rules,
            link_ports=self.link_ports,
            lldp_interval=self.lldp_interval,
            host_age=self.host_age,
            host_limit=self.host_limit,
            hold=self.hold,
            packet_rate=self.packet_rate,
            error_rate=self.error_rate,
            untrusted=self.untrusted,
            link_mtu=self.link_mtu,
            capacities=capacities,
            capacities_file=capacities_file,
            enforcement=enforcement,
        )


def read_file(file: str) -> str:
    """The text of the file of capacities. Blocks while it is read. Raises InvalidURI."""
    try:
        return Path(file).read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise InvalidURI(f"option capacities={file!r}: the file cannot be read: {reason}") from None
