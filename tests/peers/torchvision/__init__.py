"""Stands in for torchvision, which zennit imports for the names of a few classes only."""
