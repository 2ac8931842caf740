"""From the ledger to what can be learned from: rows, labels, splits."""
