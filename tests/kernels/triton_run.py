"""``python -m tests.kernels.triton_run [name ...]``: the checks of the Triton kernels, or those named, one by one.

In Triton's interpreter where TRITON_INTERPRET=1, else on CUDA. No pytest is needed, so that a bare CUDA machine can run
them.
"""

from __future__ import annotations

import sys
import time
import traceback

from tests.kernels import triton_calls, triton_checks, triton_nade

FOUND = {
    name.removeprefix("check_"): check
    for module in (triton_checks, triton_calls, triton_nade)
    for name, check in vars(module).items()
    if name.startswith("check_") and check.__module__ == module.__name__
}
ON_CUDA = ("streams", "captured_by_the_caller", "more_than_two_billion_elements")
CHECKS = {name: check for name, check in FOUND.items() if name not in ON_CUDA or not triton_checks.INTERPRETED}


def main(names: list[str]) -> int:
    """Run the named checks, or all; ``--list`` prints the names first, and alone runs none.

    Args:
        names: of checks.

    Returns:
        How many failed.
    """
    if "--list" in names:
        print(*CHECKS, flush=True)
        names.remove("--list")
        if not names:
            return 0
    failed = 0
    for name in names or CHECKS:
        start = time.perf_counter()
        try:
            CHECKS[name]()
        except Exception as error:  # a kernel that does not compile must not hide what the other checks would tell
            failed += 1
            traceback.print_exc()
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"passed {name} ({time.perf_counter() - start:.1f} s)", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
