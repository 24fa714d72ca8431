"""What people and monitors see: reads the ledger, never computes risk."""
