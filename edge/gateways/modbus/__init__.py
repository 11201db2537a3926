"""Modbus TCP: a server whose registers show the handshake, and take what the PLC writes."""
