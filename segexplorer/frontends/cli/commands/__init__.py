"""The commands, a few lines each, in the groups of `segexplorer --help`; modules of `cli` do what they say."""
