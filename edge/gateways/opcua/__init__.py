"""The OPC UA gateway, modelled on OPC 40100-1 (Machine Vision)."""
