"""Running Ansible: journal, secrets, audit log."""
