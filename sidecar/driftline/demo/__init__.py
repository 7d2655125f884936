"""The whole path on one machine: a simulated upstream, the sidecar before it, traffic, then a shift."""
