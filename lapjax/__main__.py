"""`python -m lapjax` is `lapjax`."""

import sys

from lapjax.cli import main

sys.exit(main())
