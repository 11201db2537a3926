"""What the documents of the gateways are made with."""
