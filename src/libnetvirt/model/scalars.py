"""The scalar types of a description. Each accepts text, because XML documents hold nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from libnetvirt.model.messages import shown

AnyInterface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network
AnyAddress = IPv4Address | IPv6Address

_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_RFC4122 = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LENGTH = re.compile(r"[^/]+/[0-9]{1,3}", re.ASCII)


def whole_number(value: Any, digits: int) -> int | None:
    """``value``, an int or the text of one, as an int; None if it is neither, or has more ``digits``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if 0 <= value < 10**digits else None
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit() and len(text) <= digits:
            return int(text)
    return None


def uuid_text(value: Any) -> str:
    """The canonical text of a uuid: a decimal number or an RFC 4122 UUID in lower case. Raises ValueError."""
    number = whole_number(value, 20)
    if number is not None and 1 <= number < 2**64:
        return str(number)
    if isinstance(value, str) and _RFC4122.fullmatch(text := value.strip().lower()):
        return text
    raise ValueError(f"{shown(value)} is not a uuid: use a whole number from 1 to 2^64-1 or an RFC 4122 UUID")


def _word(value: Any) -> str:
    """A switch id or port, which documents may write as a number."""
    number = whole_number(value, 40) if isinstance(value, int) else None
    text = str(number) if number is not None else value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 128 or not text.isprintable() or " " in text:
        raise ValueError(f"{shown(value)} is not usable: write 1 to 128 printable characters without spaces")
    return text


#: the most ports of a link aggregation group
MAX_MEMBERS = 16


def port_members(value: Any) -> list[str]:
    """The ports in ``5``, ``"5"``, ``"5,6"`` or ``[5, 6]``. Raises ValueError."""
    if isinstance(value, str):
        value = value.split(",") if "," in value else [value]
    elif not isinstance(value, (list, tuple)):
        value = [value]
    if not 1 <= len(value) <= MAX_MEMBERS:
        raise ValueError(f"{len(value)} ports are not usable: an endpoint has 1 to {MAX_MEMBERS}")
    if any("," in port for port in value if isinstance(port, str)):
        raise ValueError(f"{shown(value)} is not usable: a list has one port in each member")
    found = [_word(port) for port in value]
    if len(set(found)) != len(found):
        raise ValueError(f"{shown(','.join(found))} has the same port twice")
    if len(",".join(found)) > 128:
        raise ValueError(f"{shown(','.join(found))} is not usable: write at most 128 characters")
    return found


def port_text(value: Any) -> str:
    """A port as it is named, or the ports of a link aggregation group, such as ``5,6``. Raises ValueError."""
    return ",".join(port_members(value))


def _name(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > 63 or not text.isprintable() or "/" in text:
        raise ValueError(f"{shown(value)} is not usable: write 1 to 63 printable characters without '/'")
    return text


def mac_address(value: Any) -> str:
    """A unicast MAC address as ``aa:bb:cc:dd:ee:ff``. Raises ValueError."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{shown(value)} is not a MAC address such as 02:00:00:00:00:01")
    text = text.replace("-", ":")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(f"{text} is not a host's address: it is a group address or zero")
    return text


def whole(low: int, high: int, what: str) -> BeforeValidator:
    """A validator for whole numbers from ``low`` to ``high``. Messages call the number ``what``."""

    def check(value: Any) -> int:
        number = whole_number(value, 12)
        if number is None:
            raise ValueError(f"{shown(value)} is not a {what}: write a whole number from {low} to {high}")
        if not low <= number <= high:
            raise ValueError(f"{what} {number} is out of range: {low} to {high}")
        return number

    return BeforeValidator(check)


def _ip_text(value: Any) -> str:
    # No address is longer than 64 characters; the parsers would repeat all of a longer text.
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= 64 else ""


def interface(value: Any) -> AnyInterface:
    """A gateway address with prefix length, such as ``10.0.1.254/24``. Raises ValueError."""
    if isinstance(value, (IPv4Interface, IPv6Interface)):
        value = str(value)
    text = _ip_text(value)
    try:
        # Netmasks are refused, so that documents have one notation.
        if not _LENGTH.fullmatch(text):
            raise ValueError
        found = ip_interface(text)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not an address with prefix length, such as 10.0.1.254/24"
        ) from None
    if isinstance(found, IPv6Interface) and found.scope_id:
        raise ValueError(f"{shown(value)} has a zone: leave the part after % out")
    net = found.network
    if found.ip.is_multicast or found.ip.is_unspecified or found.ip.is_loopback:
        raise ValueError(f"{found} cannot be a gateway's address: it is multicast, loopback or unspecified")
    if net.prefixlen < net.max_prefixlen - 1 and found.ip in (net.network_address, net.broadcast_address):
        raise ValueError(
            f"{found} is the first or last address of its network: the gateway needs one in between"
        )
    return found


def network_prefix(value: Any) -> AnyNetwork:
    """An IP prefix, such as ``10.9.0.0/16``. Raises ValueError, also if host bits are set."""
    if isinstance(value, (IPv4Network, IPv6Network)):
        value = str(value)
    text = _ip_text(value)
    try:
        address = ip_interface(text).ip
        loose = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a prefix such as 10.9.0.0/16") from None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError(f"{shown(value)} has a zone: leave the part after % out")
    if not _LENGTH.fullmatch(text) or address != loose.network_address:
        raise ValueError(f"{shown(value)} has host bits set or no prefix length: did you mean {loose}?")
    return loose


def host_address(value: Any) -> AnyAddress:
    """An IP address without zone. Raises ValueError."""
    if isinstance(value, (IPv4Address, IPv6Address)):
        value = str(value)
    try:
        found = ip_address(_ip_text(value))
    except ValueError:
        raise ValueError(f"{shown(value)} is not an IP address") from None
    if isinstance(found, IPv6Address) and found.scope_id:
        raise ValueError(f"{shown(value)} has a zone: leave the part after % out")
    return found


def several(value: Any) -> Any:
    """The members of a field that may have several: a sequence, one value in place of one, or None."""
    if value is None:
        return ()
    if isinstance(value, (list, tuple)):
        return value
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else (value,)


_as_text = PlainSerializer(str, return_type=str, when_used="json")
Uuid = Annotated[str, BeforeValidator(uuid_text)]
Word = Annotated[str, BeforeValidator(_word)]
Port = Annotated[str, BeforeValidator(port_text)]
Name = Annotated[str, BeforeValidator(_name)]
Mac = Annotated[str, BeforeValidator(mac_address)]
Interface = Annotated[AnyInterface, BeforeValidator(interface), _as_text]
Prefix = Annotated[AnyNetwork, BeforeValidator(network_prefix), _as_text]
Address = Annotated[AnyAddress, BeforeValidator(host_address), _as_text]
