"""``python -m softloss``: shows how the package was built, tests it, and says where C++ projects find it.

Lives here: the command line. Must not: anything that a program would call.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from softloss import _core, show_config


def installed(pattern: str) -> Path:
    """Return the directory of the C++ parts that matches `pattern`, next to the extension."""
    root = Path(_core.__file__).parent
    found = next(root.glob(pattern), None)
    if found is None:
        raise SystemExit(f"softloss: no {pattern} under {root}: the C++ parts are not installed")
    return found


def main() -> None:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m softloss", description="Show how softloss was built.")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--cmakedir", action="store_true", help="print the directory of softlossConfig.cmake")
    place.add_argument("--includedir", action="store_true", help="print the directory of the C++ headers")
    place.add_argument("--selftest", action="store_true", help="check values and bits on this machine (ten seconds)")
    arguments = parser.parse_args()
    if arguments.cmakedir:
        print(installed("lib*/cmake/softloss"))
    elif arguments.includedir:
        print(installed("include"))
    elif arguments.selftest:
        from softloss import _selftest  # imported only here: its imports take time

        raise SystemExit(not _selftest.run())
    else:
        show_config()


if __name__ == "__main__":
    main()
