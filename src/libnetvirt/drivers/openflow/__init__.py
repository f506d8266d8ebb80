"""The OpenFlow driver: virtual networks on switches that speak OpenFlow 1.3.

``openflow:///?listen=ADDRESS:PORT`` runs the controller inside the connection and waits for switches.
"""

from libnetvirt.drivers.openflow.driver import OpenFlowDriver

__all__ = ["OpenFlowDriver"]
