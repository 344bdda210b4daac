"""A process that writes to a store without pause, and says after each operation that it has returned.

Started by :class:`~semantic.adapters.storage.experiment_stores.ExperimentStores`, to be killed.
"""

import argparse
from pathlib import Path

from semantic.adapters.json_worker import answers_on_stdout, tell
from semantic.adapters.storage.disk_store import DiskStore
from semantic.application.store_workload import operations


def main() -> None:
    """Write until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--block-bytes", type=int, required=True)
    arguments = parser.parse_args()
    answers = answers_on_stdout()
    store = DiskStore(arguments.store)
    tell(answers, "ready")
    for operation in operations(arguments.block_bytes):
        operation.call(store)
        tell(answers, operation.name)


if __name__ == "__main__":
    main()
