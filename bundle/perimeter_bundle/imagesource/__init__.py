"""Images from the builder itself: OCI layouts, docker save archives, the Docker engine."""
