"""Network code of our own (torch); the specs beside it import it only when something is built."""
