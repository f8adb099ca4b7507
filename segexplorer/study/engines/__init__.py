"""What trains the runs of a study: several processes of this computer, jobs of SLURM, tasks of Ray."""
