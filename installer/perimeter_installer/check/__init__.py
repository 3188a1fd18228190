"""Is the stack really working. ``check.run(site, bundle) -> Report``."""

from perimeter_installer.check.runner import CheckOptions, run

__all__ = ["CheckOptions", "run"]
