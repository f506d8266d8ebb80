"""What was asked for, and what is known of it: networks, endpoints, hosts, neighbours, labels."""
