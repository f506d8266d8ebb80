"""The client of a served driver: ``openflow+unix:///run/netvirt.sock``, or with TLS
``openflow+tls://controller.example:8443/?token-file=…``."""

from libnetvirt.drivers.remote.driver import RemoteDriver
from libnetvirt.drivers.remote.tls import TlsRemoteDriver

__all__ = ["RemoteDriver", "TlsRemoteDriver"]
