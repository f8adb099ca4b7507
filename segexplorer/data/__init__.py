"""Volumes, cases, data sets, preparation and sampling: from files to batches."""
