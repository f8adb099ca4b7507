"""Readers and writers of volumes, one file per format; `registry` says which suffix belongs to which."""
