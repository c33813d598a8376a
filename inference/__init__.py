"""Arrays in, evidence out. Knows no Kafka, no Redis, no clock, no environment variables.

Part of Crosscheck.
"""
