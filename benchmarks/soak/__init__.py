"""Whether a server and a client stay as large as they are, at full load and for as long as you like."""
