"""Records what torchrun makes of every case: `make differential`, after a change of the cases or of torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .cases import CASES
from .observe import observe

RECORDED = Path(__file__).with_name("torchrun.json")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def main() -> None:
    """With arguments only these cases are recorded anew."""
    wanted = set(sys.argv[1:])
    recorded = json.loads(RECORDED.read_text()) if wanted else {}
    for case in CASES:
        if not wanted or case.id in wanted:
            recorded[case.id] = observe(TORCHRUN, case)
            print(case.id, recorded[case.id]["code"], recorded[case.id].get("error", ""), flush=True)
    order = [case.id for case in CASES]
    RECORDED.write_text(json.dumps({key: recorded[key] for key in order}, indent=1) + "\n")


if __name__ == "__main__":
    main()
