"""Networks as functions of flat parameter vectors."""
