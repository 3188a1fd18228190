"""Checks that run on every host, through pytest-testinfra; see perimeter_installer.check.hosts."""
