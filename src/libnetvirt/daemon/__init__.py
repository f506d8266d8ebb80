"""netvirtd: any driver behind HTTP/JSON on a unix socket.

:func:`build_app` makes the application over an open connection, without a server, so that tests and
later transports can mount it; :func:`serve` runs it in the foreground, :func:`run` without a loop around.
"""

from libnetvirt.daemon.app import build_app
from libnetvirt.daemon.server import run, serve

__all__ = ["build_app", "run", "serve"]
