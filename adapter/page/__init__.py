"""One assessment on one page, for people: HTML and PDF, from the resources as they were delivered."""
