"""Which attribute set an event belongs to, within the bounds, and which buffer its value goes to."""
