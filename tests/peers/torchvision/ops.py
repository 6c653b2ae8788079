"""No network of ours is one of these."""


class FrozenBatchNorm2d:
    """Never met."""
