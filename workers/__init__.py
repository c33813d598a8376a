"""The processes: capture agent, inspection worker, reject gate, command line."""
