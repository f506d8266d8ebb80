"""A fleet of emulated OpenFlow 1.3 switches, linked into a graph, in a process of its own.

The switches store and report rules but do not match frames against them. A host's frame always goes to the
controller as a table miss, and a frame that the controller sends out at a link arrives at its far end.
"""
