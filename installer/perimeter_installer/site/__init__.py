"""The site: site.yaml, inventory, facts of hosts."""
