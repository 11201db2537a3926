"""The runtime of one station: frames in, exactly one verdict per trigger out."""

SOFTWARE_VERSION = "0.1.0"
