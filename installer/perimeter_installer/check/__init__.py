"""Is the stack really working."""
