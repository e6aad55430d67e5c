"""`python -m lapjax` is `lapjax`."""

import sys

from lapjax.cli.main import main

sys.exit(main())
