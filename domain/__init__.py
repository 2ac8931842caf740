"""Pure rules and values: standard library and msgspec only; clock, ids, keys and settings are arguments."""
