"""State, bundle and site to steps."""
