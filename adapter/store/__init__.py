"""What the service remembers: the ledger of cases in a database, the case files encrypted on disk."""
