"""The command line: `main` dispatches, one module a group of commands, and what they share."""
