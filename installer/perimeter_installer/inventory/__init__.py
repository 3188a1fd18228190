"""What the site's registry really holds: asked, counted, signed for the builder."""
