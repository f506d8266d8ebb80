"""Shared by the tests of the suite: the testbed, frames, streams, and the detection of late frames."""
