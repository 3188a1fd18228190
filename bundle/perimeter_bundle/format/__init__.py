"""A bundle on disk: file names, sums, signatures and their verification."""
