"""What a reviewer reads: inventory and licences."""
