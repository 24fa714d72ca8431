"""The pretend hospital of `adjuvant demo`, of integration work and of fault tests. Everything in it is simulated."""
