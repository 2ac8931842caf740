"""Composition root: settings, wiring, HTTP, supervisor and command line. Sees every layer, is seen by none."""
