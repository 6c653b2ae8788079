"""No network of ours is one of these."""


class BasicBlock:
    """Never met."""


class Bottleneck:
    """Never met."""


class ResNet:
    """Never met."""
