"""Receptive fields, which inputs can reach an output, derived from a network's operations; and windows of them."""
