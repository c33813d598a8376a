"""A long run of hostile messages: `python tests/schemas/fuzz.py --minutes 10`; 1 at the first fault.

A fault is whatever is no SchemaError, takes longer than a second, or allocates more than a message may. Its
bytes are written to a file, and `--replay FILE` gives them to the readers again.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from schemas.images import BYTES_PER_PIXEL
from schemas.wire import MAX_OVERHEAD_BYTES
from tests.schemas.mutations import MAX_PIXELS, attack, corpus, mutate

MAX_SECONDS = 1.0
MAX_SEEDS = 4000
# The readers of a whole attack one after another: each frees what it took before the next.
MAX_BYTES = MAX_OVERHEAD_BYTES + MAX_PIXELS * BYTES_PER_PIXEL


def main() -> int:
    """Attack until the time is up; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", type=Path, default=Path("fuzz-fault.bin"))
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    if options.replay is not None:
        print(attack(options.replay.read_bytes()))
        return 0
    random, seeds = Random(options.seed), corpus()
    first, outcomes, runs, slowest, most = len(seeds), Counter[tuple[str, str]](), 0, 0.0, 0
    tracemalloc.start()
    end = time.monotonic() + 60 * options.minutes
    resident = 0
    while time.monotonic() < end:
        data = mutate(random, seeds)
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            became = attack(data)
        except BaseException:
            return _fault(options.fault, data, traceback.format_exc())
        took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] - before
        if took > MAX_SECONDS or peak > MAX_BYTES + 4 * len(data):
            return _fault(options.fault, data, f"{took:.2f} s, {peak} bytes")
        # A message that ends in a way not seen before is worth changing further.
        if not became.items() <= outcomes.keys() and len(seeds) < MAX_SEEDS and len(data) < 2**16:
            seeds.append(data)
        outcomes.update(became.items())
        runs, slowest, most = runs + 1, max(slowest, took), max(most, peak)
        if runs == 1000:
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    print(f"{runs} messages in {options.minutes:g} min, no fault; seeds {first} -> {len(seeds)}")
    print(
        f"slowest {slowest * 1000:.0f} ms, most allocated {most / 2**20:.1f} MiB,"
        f" resident grew {grown / 1024:.1f} MiB"
    )
    print(f"{len(outcomes)} different endings; of each reader:")
    for (reader, ending), count in sorted(outcomes.items()):
        print(f"  {reader:<34} {ending:<20} {count}")
    return 0


def _fault(path: Path, data: bytes, what: str) -> int:
    path.write_bytes(data)
    print(f"FAULT on {len(data)} bytes, written to {path}:\n{what}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
