"""No test, and no process that a test starts, touches the user's cache of compiled code."""

import os

os.environ["CHAINRULE_CACHE"] = "off"
