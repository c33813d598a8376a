"""Verdicts as they are decided: `python docs/examples/subscribe_verdicts.py broker:9092 [TOPIC]`."""

import sys

from crosscheck import Verdicts

if __name__ == "__main__":
    broker, topic = (*sys.argv[1:], "inspection.verdicts")[:2] if sys.argv[1:] else sys.exit(__doc__)
    with Verdicts(broker, topic=topic) as verdicts:
        for verdict in verdicts:
            print(verdict.part, verdict.product, verdict.decision, verdict.score, verdict.reason, flush=True)
