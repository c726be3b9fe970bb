"""What Grafana and Prometheus get: dashboards and rules, made from the metric catalogue.

``python -m dashboards`` writes them into the package, where its command finds them. Nothing of this is installed with
it. Needs ``grafana-foundation-sdk`` and PyYAML (``tox.ini`` has the releases), and with them Python 3.11.
"""
