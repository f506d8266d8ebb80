"""A fleet of emulated OpenFlow 1.3 switches, wired into a graph, in a process of its own.

What it does not do is forward: frames enter at hosts as table misses, and what the controller sends out
at a link comes up at its far end. Rules are kept and told, never matched.
"""
