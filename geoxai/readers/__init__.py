"""Files as people have them, opened as lazy xarray objects with canonical names."""
