"""The read side: events in, rows out. Everything here can be rebuilt from the ledger alone."""
