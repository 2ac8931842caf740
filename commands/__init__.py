"""The write side: from bytes off the wire to durable decisions."""
