// MeshYAMLTests
