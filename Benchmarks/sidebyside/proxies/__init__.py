"""One module a proxy: where it is found, and its configuration for any two legs."""
