"""Settings of the process: what the program, the environment and the administrator have said."""
