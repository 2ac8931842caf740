"""Models as plain arrays: made from scikit-learn's trees, checked when loaded, scored by compiled kernels."""
