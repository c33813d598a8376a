"""The processes: capture agent, inspection worker, reject gate, command line. Part of Crosscheck."""
