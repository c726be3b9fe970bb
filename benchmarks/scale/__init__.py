"""What becomes of the cost when there is more of everything: calls, sessions, series, bytes and time."""
