"""What ``tests.load_api`` puts a netvirtd under load with: the daemon, clients and readers of events.

Clients and readers are processes of their own, with many of them in each, and tell the main process in lines
of JSON what they were told.
"""
