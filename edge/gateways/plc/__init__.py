"""The PLC's part of the handshake, played from the command line: to commission a line without a PLC."""
