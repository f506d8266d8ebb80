"""Other implementations that judge the oracle: the bridge and the router of the Linux kernel."""
