"""The gateways as processes between a station and an independent PLC: is every verdict seen, how soon, and what do faults do."""
