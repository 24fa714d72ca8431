"""The real servers, each started once per run, waited for, and stopped by its process id."""
