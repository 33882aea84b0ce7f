"""The parts of bench/server.py: servers in their own processes, clients, and measurements."""
