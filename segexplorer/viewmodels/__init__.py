"""Toolkit-free pictures: events and snapshots in, arrays and sentences out. Faces draw them."""
