"""`python -m unidet`."""

from __future__ import annotations

import sys

from unidet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
