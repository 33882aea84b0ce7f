"""What was measured, as a page and pictures."""
