"""What Redis remembers: one verdict a part, the gate's stream, sensor states, attempts, heartbeats."""

from workers.store.connection import connect
from workers.store.settings import StoreSettings
from workers.store.verdicts import Decided, GateEntry, VerdictStore

__all__ = ["Decided", "GateEntry", "StoreSettings", "VerdictStore", "connect"]
