"""Locking, planning and building: what to fetch and in which order."""
