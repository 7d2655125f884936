"""Kill the parts of a sidecar under load, and hold its promises against what clients saw: `make chaos`."""
