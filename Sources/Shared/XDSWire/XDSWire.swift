// XDSWire
