"""Values between an event and the instruments of OpenTelemetry, which get them in bulk when a reader collects."""
