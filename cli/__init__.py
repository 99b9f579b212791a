"""The command line of critpoints: one thin file a command."""
