"""Programs the connected side runs."""
