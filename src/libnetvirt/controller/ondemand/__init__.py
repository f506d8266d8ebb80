"""On-demand insertion: rules for a pair of hosts when its first frame comes up."""
