"""A client of OVSDB databases (RFC 7047), used by the drivers that write to one."""
