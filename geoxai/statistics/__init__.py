"""Statistics of fields and of relevance maps: climatology and indices, splits and scaling, composites and shares.

Functions on xarray objects and numpy arrays; none of them knows a config, a stage or a run.
"""
