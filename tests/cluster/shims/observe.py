"""Runs command lines under a launcher's functions and writes down what was raised: `observe.py MODULE CASES.json`.

A module of its own, because torch's launcher changes the handlers of signals for good.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def described(error: BaseException) -> dict[str, Any]:
    seen: dict[str, Any] = {"type": type(error).__name__, "bases": [base.__name__ for base in type(error).__mro__[1:]]}
    seen["text"] = str(error)
    if isinstance(error, SystemExit):
        seen["code"] = error.code
    if hasattr(error, "failures"):
        fields = ("local_rank", "exitcode", "error_file", "message", "error_file_data")
        seen["failures"] = [[rank, *(getattr(one, name) for name in fields)] for rank, one in error.failures.items()]
        seen["pids"] = [failure.pid for failure in error.failures.values()]
        seen["root"] = error.get_first_failure()[0]
        seen["name"] = error.name
    return seen


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    own = Path("own.json")
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(own.absolute())
    seen = []
    for function, line in json.loads(Path(sys.argv[2]).read_text()):
        own.unlink(missing_ok=True)
        found: dict[str, Any] = {}
        try:
            if function == "run":
                module.run(module.parse_args(line))
            else:
                found["returned"] = getattr(module, function)(line)
        except BaseException as error:  # What argparse raises too.
            found = described(error)
        if own.exists():
            found["own"] = json.loads(own.read_text())
        seen.append(found)
    Path(f"{sys.argv[1]}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
