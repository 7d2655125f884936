"""Synthetic traffic and a simulated upstream, for the demo, for tests and for trying a configuration.

Nothing here is a model. Everything is drawn from a seed, and says that it is simulated.
"""
