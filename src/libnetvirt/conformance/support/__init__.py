"""What the tests of the suite share: the testbed, frames, streams, and the detection of late frames."""
