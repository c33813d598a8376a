"""The contract on the wire: messages, images, the part key. Imports nothing of ours. Part of Crosscheck."""
