"""`python -m hyperloom.pipeline`: the command, for an interpreter of one's choice."""

import sys

from hyperloom.pipeline.cli import main

sys.exit(main())
