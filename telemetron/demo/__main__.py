"""`python -m telemetron.demo`, which is `telemetron demo`."""

import sys

from telemetron.demo import main

sys.exit(main())
