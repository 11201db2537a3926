"""The line engineer's subcommands, one file each."""
