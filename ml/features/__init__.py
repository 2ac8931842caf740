"""What a model reads of a render: one schema, one way to fill it, for the gate, data sets and monitors alike."""
