"""Receptive fields: which inputs can reach an output, found from the operations a network does, and windows of them."""
