"""netvirtd: serves any driver as HTTP and JSON on a unix socket.

:func:`build_app` builds the web application for an open connection, without a server, so that tests and
other transports can mount it. :func:`serve` runs it on a socket; :func:`run` does so in a new event loop.
"""

from libnetvirt.daemon.app import build_app
from libnetvirt.daemon.server import run, serve

__all__ = ["build_app", "run", "serve"]
