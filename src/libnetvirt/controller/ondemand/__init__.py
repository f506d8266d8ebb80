"""On-demand insertion: flow entries for a pair of hosts, installed when its first frame comes up."""
