"""Where bundles live: the models folder of this machine, and a store that bundles are fetched from."""

from workers.registry.bundles import Registry, open_registry
from workers.registry.entry import Entry

__all__ = ["Entry", "Registry", "open_registry"]
