"""OCI distribution client and OCI image layout."""
