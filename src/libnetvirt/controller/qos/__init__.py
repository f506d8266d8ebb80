"""Quality of service: capacities of links, reservations, constrained paths, meters and queues."""
