"""Making models: cohorts, fitting, evaluation, export. torch lives here and nowhere else."""
