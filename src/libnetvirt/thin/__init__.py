"""A client of a server, with the standard library alone: for programs that start often, or have to be small.

::

    from libnetvirt import thin

    with thin.connect("openflow+unix:///run/netvirt.sock") as client:
        client.create({"uuid": 7, "name": "blue", "endpoints": [{"uuid": 11, "switch": 1, "port": 2}]})
        print(client.state("blue")["state"])

It speaks the interface ``/v1`` of ``netvirt serve`` and ``netvirtd``. Descriptions and reports are what JSON
documents hold, with hyphenated names, and only the server checks them. Errors are those of
:mod:`libnetvirt.errors`, with the same codes. To import it takes a fifth of what ``import libnetvirt`` and a
first connection take, because nothing but these two modules is imported.
"""

from libnetvirt.thin.client import Client, Document, connect
from libnetvirt.thin.events import Events

__all__ = ["Client", "Document", "Events", "connect"]
