"""What comes to be known of persons and publishers after a decision, kept from the ledger as it goes."""
