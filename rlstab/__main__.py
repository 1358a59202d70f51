"""`python -m rlstab`, for where the `rlstab` script is not on the path."""

import sys

from rlstab.cli.main import main

sys.exit(main())
