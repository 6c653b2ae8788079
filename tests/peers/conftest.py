"""zennit imports torchvision for a few class names; the stand-in beside this file serves them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
