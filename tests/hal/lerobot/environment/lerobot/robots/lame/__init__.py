"""A device of LeRobot's own whose vendor's package is not installed."""

import a_vendors_package_that_is_not_there  # noqa: F401
