"""The rows both dashboards have, each made for a side."""
