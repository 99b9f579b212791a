"""What is studied: losses as functions of a flat parameter vector."""
