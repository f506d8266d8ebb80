"""The networks as described, and the state that goes with them: endpoints, hosts, neighbours, labels."""
