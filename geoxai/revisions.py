"""Revisions of the libraries that make the numbers of several stages.

A stage's own ``revision`` and those of its ``libraries`` enter its fingerprint, so that results made by older code are
computed again. geoxai's version does not: most commits change no number.
"""

# Raise a library's number when the same input gives different numbers from before (a corrected formula, another default
# inside it, another order of terms that shows beyond rounding), and a change concerns several stages. What a single
# stage uses alone is for that stage's own `revision`. Then `python tools/golden.py` stores the new results.
LIBRARIES: dict[str, int] = {
    "attribution": 3,
    "grid": 4,
    "models": 3,
    "plotting": 2,
    "readers": 3,
    "statistics": 3,
}
