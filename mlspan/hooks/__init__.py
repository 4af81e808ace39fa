"""Building blocks of an integration: functions of other libraries watched, and their calls made into spans."""
