"""Files as they come, opened as lazy xarray objects with canonical names."""
