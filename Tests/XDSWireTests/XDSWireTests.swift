// XDSWireTests
