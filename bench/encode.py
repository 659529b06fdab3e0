"""How fast conversations become token ids in one process, and how long the proof of them takes.

    python -m bench.encode [--conversations 2000]

Human conversations of four messages and more under the bundled model's chat template. Times are
those of the processor, so that other work on the machine counts little. The last line is one JSON
object.
"""

import argparse
import json
import platform
import time

from bench.train import conversations, prepared
from models.chat import encode_all
from models.proof import prove
from models.template import load_template


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=2000)
    options = parser.parse_args()
    _, base = prepared()
    template = load_template(base)
    records = conversations(options.conversations)
    encode_all(template, records[:20], 512)  # what is looked at once
    began = time.process_time()
    examples, report = encode_all(template, records, 512)
    encoded = time.process_time()
    proof = prove(template, records, base=base.id)
    proven = time.process_time()
    result = {
        "conversations": len(records),
        "messages_each": round(sum(len(one.messages) for one in records) / len(records), 1),
        "examples": len(examples),
        "skipped": report.skipped.total(),
        "conversations_per_second": round(len(records) / (encoded - began)),
        "proof_seconds": round(proven - encoded, 1),
        "proven_turns": proof.turns,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
