"""Facts of hosts judged before anything changes."""
