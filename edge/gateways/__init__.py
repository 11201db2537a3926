"""Gateways: clients of the verdict bus that speak a PLC's protocol, each in a process of its own."""
