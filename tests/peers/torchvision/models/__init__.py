"""Models zennit looks for by type."""
