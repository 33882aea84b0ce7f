"""Programs as text: scanned, parsed, checked, printed, and run on a state."""
