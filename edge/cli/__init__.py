"""The runtime's subcommands, one file each."""
