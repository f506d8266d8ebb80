"""The demonstration: one story on Open vSwitch, on OVN or in memory. See ``python -m demo --help``."""
