"""The four trained nets of the reference profile: two mappings between the sensors, two decoders."""
