"""What to fetch for a release, and how it becomes a bundle: plan, lock, build."""
