"""``opentelemetry-instrument`` imports this before it reads its command line: our variables, and our preference.

Every name ``OTEL_*`` in here becomes a flag of the launcher. A name of another package must not be imported into this
module: a flag that two packages define ends the launcher.
"""

from contextlib import suppress

from .core.environment_variables import *  # noqa: F403
from .distro.selection import prefer_this_distro

# The launcher loads entry points to ask for flags and has no other hook. Flags are read later, so they win. What is
# raised here would end the launcher, and with it the application.
with suppress(Exception):
    prefer_this_distro()
