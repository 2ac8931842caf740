"""From rows and labels to a model as it is kept: targets, trees, calibration, bands."""
