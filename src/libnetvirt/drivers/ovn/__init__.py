"""The OVN driver: virtual networks as logical switches and routers of an OVN deployment.

``ovn://HOST/``, or ``ovn:///?nb=REMOTE,…&sb=REMOTE,…``: see
:class:`libnetvirt.drivers.ovn.settings.OvnSettings`.
"""

from libnetvirt.drivers.ovn.driver import OvnDriver

__all__ = ["OvnDriver"]
