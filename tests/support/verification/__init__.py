"""What tests of the verification share: what Open vSwitch itself says of a frame."""
