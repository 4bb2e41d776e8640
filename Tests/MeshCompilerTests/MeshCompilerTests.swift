// MeshCompilerTests
