"""What the integrations of all libraries that train models share."""
