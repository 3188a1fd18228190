"""Source trees: fetched from git at one commit, remote kustomize bases put into them."""
