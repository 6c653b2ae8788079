"""No network of ours is one of these."""


class VGG:
    """Never met."""
