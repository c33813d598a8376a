"""How Crosscheck is run: the container file and the services that run without containers.

Part of Crosscheck.
"""
