"""Queues of Open vSwitch ports, configured over OVSDB."""
