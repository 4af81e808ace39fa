"""One case of one peer, in this process: prints its figures as JSON."""

from __future__ import annotations

import importlib
import json
import logging
import sys
import warnings
from functools import partial

from cases import CASES
from harness import provider
from peers import PEERS


def main(peer: str, case: str, rounds: int) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    made, counting = provider()
    if case not in CASES:
        importlib.import_module("own")  # of ours alone, as they need mlspan
    figures = CASES[case](
        {
            "turn_on": partial(PEERS[peer].turn_on, made),
            "tracer": made.get_tracer("by-hand"),
            "counting": counting,
            "rounds": rounds,
        }
    )
    print("\n" + json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
