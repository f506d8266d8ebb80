"""Raw sockets on interfaces: frames in and out exactly as they are on the wire, tags included."""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6
SIOCETHTOOL = 0x8946
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCSIFMTU = 0x8922
IFF_UP = 1
ETHTOOL_STXCSUM = 0x00000017

_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata of linux/if_packet.h
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats
_ANCILLARY = socket.CMSG_SPACE(_AUXDATA.size)


class Wire:
    """A raw socket on an interface. Restores the outer tag that the kernel strips from received frames."""

    def __init__(self, interface: str, *, buffer: int = 8 << 20) -> None:
        self.interface = interface
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
        self._socket.bind((interface, ETH_P_ALL))
        self._dropped = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        """Put a frame on the wire. OSError (EMSGSIZE) if it is larger than the interface takes."""
        for again in (True, False):
            try:
                self._socket.send(frame)
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # the other end takes no frame of this size
                    return
                # That the interface was down is told once, also when it is up again.
                if error.errno != errno.ENETDOWN or not again:
                    raise

    def receive(self) -> bytes | None:
        """The next frame that arrived, or None."""
        while True:
            try:
                frame, ancillary, _, address = self._socket.recvmsg(65536, _ANCILLARY, socket.MSG_DONTWAIT)
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue  # told once, before the frames that had arrived by then
                if error.errno == errno.EAGAIN:
                    return None
                raise
            if address[2] != socket.PACKET_OUTGOING:
                return _with_tag(frame, ancillary)

    def dropped(self) -> int:
        """How many frames that arrived were lost until now, because nobody received those before them."""
        counted = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        self._dropped += _STATISTICS.unpack(counted)[1]  # since it was asked last
        return self._dropped

    def close(self) -> None:
        self._socket.close()


def _with_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    for level, kind, content in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and len(content) >= _AUXDATA.size:
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(content)
            if status & TP_STATUS_VLAN_VALID:
                if not status & TP_STATUS_VLAN_TPID_VALID:
                    tpid = 0x8100
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def set_up(interface: str, up: bool) -> None:
    """``ip link set INTERFACE up|down``, without starting a process."""
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        flags = struct.unpack("16sH", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH14x", name, 0))[:18])[1]
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", name, flags))


def checksums_in_software(interface: str) -> None:
    """``ethtool -K INTERFACE tx off``: the userspace datapath does not fill in missing checksums."""
    request = array.array("B", struct.pack("II", ETHTOOL_STXCSUM, 0))
    address, _ = request.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), address))


def set_mtu(interface: str, mtu: int) -> None:
    """``ip link set INTERFACE mtu MTU``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFMTU, struct.pack("16si12x", interface.encode(), mtu))
