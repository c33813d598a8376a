"""One trace a part, from its capture to its gate, for OpenTelemetry; asked for by CROSSCHECK_TRACE.

Trace ids follow from part keys (`context`), processes tell what happened when it has happened (`agent`,
`worker`, `gate`), a thread makes spans of it and sends them (`recorder`, `export`), and records carry the
context on for whoever reads them (`bus`). Nothing here can hold a part up.
"""
