"""The append-only record: one port, its adapters, and how events are written down."""
