"""The work: plain Python that knows neither Celery nor, outside ingress and console, Flask."""

import zoneinfo

# Zone rules come from the package ``tzdata`` of the lock file, never from the machine: laws change clocks,
# and machines of different years would not agree on when a shop's day begins. See docs/decisions/0015.
zoneinfo.reset_tzpath(to=())
