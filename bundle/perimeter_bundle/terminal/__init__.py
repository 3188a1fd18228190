"""How both programs speak to people: errors, progress, exit statuses."""
