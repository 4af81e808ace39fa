"""The code that the integrations of all training libraries share."""
