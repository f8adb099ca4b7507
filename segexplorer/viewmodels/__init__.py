"""Toolkit-free pictures: events and snapshots in, arrays and sentences out. Frontends draw them."""
