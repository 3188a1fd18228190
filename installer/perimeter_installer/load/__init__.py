"""Bundle to registry replicas, which are also the site's file store."""
