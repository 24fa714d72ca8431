"""The steps by which a database of an older adjuvant becomes one of this."""
