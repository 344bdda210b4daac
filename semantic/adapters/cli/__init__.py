"""The command line. Commands get everything they need as :class:`Services`; the container builds those."""
