"""`python -m wherry`: the command line."""

import sys

from wherry.cli import main

sys.exit(main())
