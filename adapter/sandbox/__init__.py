"""The pretend hospital of `adjuvant demo`, of integration work and of the fault tests. Everything in it is simulated."""
