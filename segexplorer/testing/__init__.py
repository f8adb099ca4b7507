"""Public conformance suites: what every registered thing must do, for us and for plug-in authors."""
