"""What everything else builds on: errors, the UI vocabulary, specs, registries and events.

Needs numpy, pydantic and psygnal only; nothing here knows torch, files of images or a toolkit.
"""
